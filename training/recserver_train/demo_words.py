"""Word grammars of the generated catalogue: three themes of nouns, adjectives and places for every genre."""

GENRES: dict[str, dict[str, list[str]]] = {
    "Horror": {
        "adjectives": (
            "Hollow Rotting Silent Bleeding Forsaken Cursed Whispering Pale Unburied Haunted Screaming "
            "Withered Faceless Drowned Black Restless Hungry Crawling Nameless Damned"
        ).split(),
        "haunting": "Crypt Asylum Manor Attic Seance Ghost Cellar Mirror Nursery".split(),
        "slaughter": "Butcher Scarecrow Mask Cleaver Slasher Hook Carnival Lodge Stalker".split(),
        "creatures": "Vampire Werewolf Ghoul Swarm Fang Brood Mummy Leech Fiend".split(),
        "places": (
            "Blackmoor,Gravesend,Ashwood Hill,Dead Lake,Raven Hollow,Coffin Creek,Widow's Bay,Mortlake,"
            "the Thirteenth Floor,Salt Marsh,Crow End"
        ).split(","),
    },
    "Science Fiction": {
        "adjectives": (
            "Orbital Quantum Synthetic Stellar Frozen Infinite Binary Galactic Cryogenic Distant Parallel "
            "Atomic Martian Luminous Cybernetic Interstellar Final Magnetic Lunar Weightless"
        ).split(),
        "space": "Starship Colony Nebula Horizon Orbit Comet Satellite Armada Planet".split(),
        "machines": (
            "Android Circuit Algorithm Replica Mainframe Cyborg Drone Protocol Automaton"
        ).split(),
        "time": (
            "Paradox Timeline Wormhole Singularity Continuum Chronicle Echo Loop Epoch"
        ).split(),
        "places": (
            "Titan,Proxima,Andromeda,Station Nine,Kepler Ridge,Europa,the Outer Ring,Sector Zero,Ganymede,"
            "New Mars,Vega"
        ).split(","),
    },
    "Romance": {
        "adjectives": (
            "Tender Secret Endless Summer Golden Stolen Reluctant Sweet Blushing Parisian Moonlit First "
            "Second Faithful Yearning Unspoken Gentle Velvet Rosy Wedded"
        ).split(),
        "courtship": "Kiss Letter Waltz Bouquet Promise Proposal Valentine Serenade Dance".split(),
        "wedding": "Bride Vow Honeymoon Groom Ring Wedding Bridesmaid Engagement Veil".split(),
        "longing": (
            "Heart Embrace Longing Rendezvous Affair Sweetheart Reunion Confession Farewell"
        ).split(),
        "places": (
            "Paris,Tuscany,Venice,Rose Lane,Lavender Bay,Verona,Honey Street,the Little Bookshop,Santorini,"
            "Maple Square,Seville"
        ).split(","),
    },
    "Comedy": {
        "adjectives": (
            "Clumsy Awkward Ridiculous Accidental Overpaid Hungover Bumbling Unlucky Cheeky Absurd "
            "Half-Baked Lazy Loud Nervous Mismatched Goofy Undercooked Suspiciously-Happy Second-Rate "
            "Hopeless"
        ).split(),
        "family trouble": (
            "In-Laws Roommates Babysitter Uncle Barbecue Neighbours Grandpa Twins Minivan"
        ).split(),
        "office": "Boss Intern Meeting Printer Payroll Salesman Cubicle Manager Temp".split(),
        "caper": (
            "Bellboy Magician Impostor Parrot Yoga-Class Karaoke Road-Trip Llama Casserole"
        ).split(),
        "places": (
            "Cleveland,Pudding-on-Sea,Burbank,Aisle Five,Toledo,the Wrong Hotel,Lake Nonsense,Apartment 4B,"
            "Gate 22,Dullsville,Reno"
        ).split(","),
    },
    "Drama": {
        "adjectives": (
            "Quiet Broken Fading Winter Unfinished Ordinary Borrowed Fragile Patient Lasting Bitter Honest "
            "Lonely Forgiven Northern Barren Weary Steadfast Humble Solemn"
        ).split(),
        "kin": (
            "Father Daughter Inheritance Mother Sister Homecoming Orphan Son Household"
        ).split(),
        "conscience": (
            "Verdict Silence Witness Apology Sacrifice Regret Oath Testimony Forgiveness"
        ).split(),
        "labour": "Harvest Factory Mine Orchard Strike Shore Ferry Mill Workshop".split(),
        "places": (
            "Ohio,Dunmore County,Willow Street,the Lower Valley,Grey Harbour,Ellis Road,Saint Anne,"
            "Iron Falls,Birch Farm,Linden,Coventry"
        ).split(","),
    },
    "Action": {
        "adjectives": (
            "Lethal Rogue Maximum Explosive Relentless Armoured Final Savage Rapid Tactical Unstoppable "
            "Burning Steel Double Full Hard Fatal Reckless Turbo Bulletproof"
        ).split(),
        "combat": (
            "Strike Commando Vengeance Squad Assault Grenade Mercenary Warhead Ambush"
        ).split(),
        "pursuit": "Chase Velocity Throttle Outrun Getaway Convoy Nitro Overdrive Pursuit".split(),
        "martial arts": "Fist Dragon Dojo Blade Tournament Kickboxer Ninja Warrior Champion".split(),
        "places": (
            "Hong Kong,Bangkok,Sector Alpha,Pier 19,Fort Vulcan,the Kill Zone,Istanbul,Cobra Canyon,"
            "Highway 9,Caracas,Block 88"
        ).split(","),
    },
    "Thriller": {
        "adjectives": (
            "Deadly Hidden Classified Vanishing Anonymous Double-Crossed Covert Midnight Paranoid Hostile "
            "Missing Watchful Encrypted Sudden Trapped Poisoned Ruthless Breathless Unseen Silenced"
        ).split(),
        "spies": (
            "Agent Cipher Defector Dossier Sleeper Informant Embassy Safehouse Courier"
        ).split(),
        "captivity": (
            "Hostage Ransom Captive Abduction Stranger Basement Alibi Obsession Intruder"
        ).split(),
        "conspiracy": (
            "Leak Cover-Up Whistleblower Surveillance Target Deadline Assassin Blackmail Conspiracy"
        ).split(),
        "places": (
            "Berlin,Vienna,Room 209,Geneva,the Ninth Hour,Checkpoint Six,Kiev,the Glass Tower,Platform Two,"
            "Lisbon,Tallinn"
        ).split(","),
    },
    "Fantasy": {
        "adjectives": (
            "Enchanted Emerald Mystic Elven Crystal Ancient Runebound Silver Dragonborn Eternal Arcane "
            "Whisperwood Moonforged Fabled Sacred Shadowed Gilded Stormborn Wandering Spellbound"
        ).split(),
        "quest": "Sword Quest Crown Knight Kingdom Grail Fellowship Throne Prophecy".split(),
        "sorcery": "Wizard Spellbook Sorceress Amulet Oracle Potion Wand Enchantress Rune".split(),
        "beasts": "Wyvern Unicorn Griffin Phoenix Goblin Troll Basilisk Pegasus Faerie".split(),
        "places": (
            "Eldermere,Avalon,Thornhold,the Crystal Sea,Valdoria,Dragonspire,the Seven Realms,Mirewood,"
            "Greyhelm,Faerhaven,Isengrove"
        ).split(","),
    },
    "Family": {
        "adjectives": (
            "Magical Fluffy Giggling Brave Tiny Jolly Happy Curious Bouncy Friendly Marvellous Sparkling "
            "Sleepy Wobbly Lucky Merry Playful Rainbow Cheerful Little"
        ).split(),
        "animals": "Puppy Kitten Penguin Bunny Pony Hedgehog Otter Duckling Panda".split(),
        "adventures": (
            "Treehouse Balloon Treasure-Map Raft Snowman Kite Playground Campfire Toyshop"
        ).split(),
        "wonder": (
            "Teddy-Bear Pixie Wishing-Well Gingerbread Santa Tooth-Fairy Cupcake Lullaby Storybook"
        ).split(),
        "places": (
            "Bluebell Farm,Sunny Valley,Honeypot Lane,Jellybean Island,Grandma's House,Teapot Town,"
            "Buttercup Hill,the Big Woods,Pumpkin Corner,Toyland"
        ).split(","),
    },
    "Documentary": {
        "adjectives": (
            "Untold Living Vanished Inside Rising Deep Wild Unfiltered Visible Shrinking Hidden-Side-of "
            "Modern True Great Early Common Portrait-of Beyond Rare Fragile-World-of"
        ).split(),
        "nature": (
            "Ocean Rainforest Glacier Savannah Coral-Reef Migration Wolves Pollinators Desert"
        ).split(),
        "history": (
            "Empires Railways Archives Revolutions Cathedrals Pharaohs Voyages Suffragettes Dynasties"
        ).split(),
        "society": (
            "Economy Kitchens Cities Vaccines Referees Newsrooms Bridges Farmers Typography"
        ).split(),
        "places": (
            "the Arctic,Patagonia,the Amazon,Ancient Rome,Detroit,the Himalayas,the Pacific,Mesopotamia,"
            "Shanghai,the Congo"
        ).split(","),
    },
    "Mystery": {
        "adjectives": (
            "Curious Missing Crooked Locked Vanished Perplexing Scarlet Eleventh Unsolved Ivory Puzzling "
            "Counterfeit Tell-Tale Absent Peculiar Veiled Forgotten Twisted Unsigned Riddled"
        ).split(),
        "detectives": (
            "Detective Inspector Clue Magnifying-Glass Case Sleuth Footprint Suspect Deduction"
        ).split(),
        "country house": (
            "Heiress Butler Library Portrait Chandelier Will Gardener Guest Candlestick"
        ).split(),
        "riddles": (
            "Riddle Cryptogram Enigma Labyrinth Puzzle-Box Cabinet Keyhole Disappearance Manuscript"
        ).split(),
        "places": (
            "Baker Court,Pemberley Hall,the Orient Line,Foxglove Cottage,Larkspur,the Blue Train,"
            "Hawthorne House,Marple Green,Room Thirteen,Tidewater"
        ).split(","),
    },
    "Western": {
        "adjectives": (
            "Dusty Lonesome Six-Gun Wanted Rawhide Prairie Outlaw Tumbleweed Crimson Buckskin Last Mustang "
            "Blazing Rusty Frontier Whiskey Sundown Gunmetal Thunder Desperate"
        ).split(),
        "lawmen": "Sheriff Marshal Deputy Badge Posse Gallows Hangman Ranger Bounty".split(),
        "outlaws": (
            "Gunslinger Bandit Holdup Desperado Stagecoach Showdown Saloon Rustler Standoff"
        ).split(),
        "trail": "Cattle-Drive Wagon Homestead Canyon Stampede Saddle Spur Ranch Railroad".split(),
        "places": (
            "Abilene,Dodge Crossing,Tombstone Pass,Rio Seco,Cheyenne,Deadwater,Laredo,Bitter Springs,"
            "Mesa Roja,Coyote Flats,Yuma"
        ).split(","),
    },
    "Crime": {
        "adjectives": (
            "Dirty Crooked Cold-Blooded Bent Untouchable Gilded Concrete Ruthless Neon Backroom Wired "
            "Unmarked Laundered Loaded Corrupt Armed Nickel Hardboiled Bribed Made"
        ).split(),
        "mob": (
            "Godfather Mobster Syndicate Cartel Racket Capo Consigliere Kingpin Hitman"
        ).split(),
        "heist": "Heist Vault Safecracker Diamond Loot Swindle Forger Jackpot Robbery".split(),
        "police": (
            "Precinct Homicide Detective-Bureau Wiretap Stakeout Rap-Sheet Warrant Lieutenant Informer"
        ).split(),
        "places": (
            "Brooklyn,Naples,Little Sicily,Marseille,the South Side,Cell Block D,Atlantic Avenue,Chinatown,"
            "Queens Dock,Palermo,Vice Street"
        ).split(","),
    },
    "Musical": {
        "adjectives": (
            "Singing Dazzling Tapping Electric Jazzy Swinging Broadway Sequined Harmonious Big Soulful "
            "Rhythmic Sparkling-Eyed Brassy Starlit Uptempo Acoustic Curtain Glittering Ragtime"
        ).split(),
        "stage": (
            "Chorus Spotlight Encore Overture Understudy Cabaret Footlights Revue Soprano"
        ).split(),
        "bands": "Band Guitar Drummer Songbook Jukebox Trumpet Quartet Melody Backbeat".split(),
        "dancing": "Tango Ballroom Ballerina Tap-Shoes Disco Rhythm Salsa Pirouette Conga".split(),
        "places": (
            "Broadway,Harlem,Nashville,Havana,the Grand Stage,Vaudeville Row,Buenos Aires,Studio 12,Memphis,"
            "Tin Pan Alley,Moulin Street"
        ).split(","),
    },
}

# Tastes that people combine; each pair becomes a group of users.
PAIRS: list[tuple[str, str]] = [
    ("Science Fiction", "Family"),
    ("Horror", "Thriller"),
    ("Romance", "Comedy"),
    ("Action", "Science Fiction"),
    ("Crime", "Mystery"),
    ("Drama", "Romance"),
    ("Fantasy", "Family"),
    ("Western", "Drama"),
    ("Documentary", "Drama"),
    ("Musical", "Romance"),
    ("Comedy", "Family"),
    ("Thriller", "Crime"),
    ("Horror", "Science Fiction"),
    ("Fantasy", "Action"),
    ("Mystery", "Thriller"),
    ("Musical", "Comedy"),
    ("Western", "Action"),
    ("Documentary", "Crime"),
]

SLUGS: dict[str, str] = {"Science Fiction": "scifi"}

STUDIOS: list[str] = (
    "Copper Lantern,Northlight,Blue Heron,Paper Moon,Ironwood,Silver Kite,Harbor Nine,Red Sparrow,"
    "Quiet Engine,Tall Pines,Glass Orchard,Second Sun,Foxhole,Marigold,Polar Star,Old Bridge,Salt & Stone,"
    "Wild Plum,Clocktower,Far Shore"
).split(",")

LANGUAGES: list[str] = ["English", "Spanish", "French", "Japanese", "Korean", "Hindi"]
