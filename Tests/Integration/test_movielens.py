"""A bundle trained on MovieLens 100K: checked against the trainer, and films that people know.

Needs the data, which may not be redistributed: RECSERVER_ML_DATA names a folder with ml-100k, or it lies in
../shared/data.
"""

import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

import harness
from harness import ROOT

# Film: what people would accept beside it, and how many of these the ten nearest must have.
ACCEPTED = {
    "Star Wars": (
        [
            "Empire Strikes Back, The",
            "Return of the Jedi",
            "Raiders of the Lost Ark",
            "Indiana Jones and the Last Crusade",
            "Back to the Future",
            "Princess Bride, The",
            "Terminator, The",
            "Star Trek: The Wrath of Khan",
            "Alien",
            "Aliens",
            "Terminator 2: Judgment Day",
            "Blade Runner",
            "Star Trek IV: The Voyage Home",
            "E.T. the Extra-Terrestrial",
            "Independence Day (ID4)",
            "Toy Story",
            "Fugitive, The",
            "Jurassic Park",
        ],
        2,
    ),
    "Godfather, The": (
        [
            "Godfather: Part II, The",
            "GoodFellas",
            "Pulp Fiction",
            "Taxi Driver",
            "Apocalypse Now",
            "Fargo",
            "Schindler's List",
            "Chinatown",
            "Casablanca",
            "Citizen Kane",
            "One Flew Over the Cuckoo's Nest",
            "Silence of the Lambs, The",
            "Star Wars",
            "Bronx Tale, A",
            "Raging Bull",
            "Reservoir Dogs",
            "Clockwork Orange, A",
            "Braveheart",
            "Patton",
            "Cool Hand Luke",
            "Deer Hunter, The",
            "Usual Suspects, The",
            "Full Metal Jacket",
            "Platoon",
            "Carlito's Way",
        ],
        2,
    ),
    "Aladdin": (
        [
            "Lion King, The",
            "Beauty and the Beast",
            "Cinderella",
            "Snow White and the Seven Dwarfs",
            "Pinocchio",
            "Fantasia",
            "Dumbo",
            "Toy Story",
            "Hunchback of Notre Dame, The",
            "Pocahontas",
            "Jungle Book, The",
            "Mary Poppins",
            "Alice in Wonderland",
            "Nightmare Before Christmas, The",
            "Home Alone",
            "Babe",
            "Sword in the Stone, The",
            "Fox and the Hound, The",
            "Aristocats, The",
            "Sound of Music, The",
            "Peter Pan",
            "James and the Giant Peach",
            "All Dogs Go to Heaven 2",
            "Mrs. Doubtfire",
        ],
        3,
    ),
    "Alien": (
        [
            "Aliens",
            "Alien 3",
            "Terminator, The",
            "Blade Runner",
            "Terminator 2: Judgment Day",
            "Predator",
            "Jaws",
            "Psycho",
            "Abyss, The",
            "Star Trek: The Wrath of Khan",
            "Thing, The",
            "Empire Strikes Back, The",
            "2001: A Space Odyssey",
            "Shining, The",
            "Die Hard",
            "Raiders of the Lost Ark",
            "Star Wars",
            "Fly, The",
            "Nightmare on Elm Street, A",
            "Carrie",
            "American Werewolf in London, An",
            "Army of Darkness",
            "Evil Dead II",
        ],
        2,
    ),
}


def data() -> Path | None:
    """The folder of MovieLens 100K."""
    named = os.environ.get("RECSERVER_ML_DATA")
    folders = [Path(named)] if named else [ROOT.parent / "shared/data"]
    return next((f / "ml-100k" for f in folders if (f / "ml-100k/u.data").exists()), None)


class MovieLens(harness.Case):
    bundle = ROOT / ".bench/ml-100k-quick"

    @classmethod
    def setUpClass(cls) -> None:
        if harness.SLOW:
            raise unittest.SkipTest("the daemon is instrumented")
        folder = data()
        if folder is None:
            raise unittest.SkipTest("no MovieLens data: set RECSERVER_ML_DATA to a folder with ml-100k")
        if not (ROOT / "training/train").exists():
            raise unittest.SkipTest("training/train is not there")
        if not (cls.bundle / "manifest.json").exists():
            done = subprocess.run(
                [
                    str(ROOT / "training/train"),
                    "ml-100k",
                    "--quick",
                    "--data",
                    str(folder),
                    "--out",
                    str(cls.bundle),
                ],
                stdout=sys.stderr,
            )
            if done.returncode:
                raise AssertionError("training/train failed")
        cls.server = harness.Daemon("--deadline-ms", "10000", bundle=cls.bundle)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.stop(cls("test_every_stage_agrees_with_the_trainer"))

    def test_every_stage_agrees_with_the_trainer(self) -> None:
        done = harness.run("check", str(self.bundle))
        print(done.stdout)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_well_known_films_have_the_neighbours_one_expects(self) -> None:
        films = harness.Catalogue(self.bundle)
        titles = [words[0] if words else "" for words in films.words("title")]
        for title, (accepted, least) in ACCEPTED.items():
            with self.subTest(title):
                answer = self.server.similar(films.items[titles.index(title)], "?n=10")
                found = [item["attributes"]["title"] for item in answer["items"]]
                print(f"  {title}: {', '.join(found)}")
                self.assertGreaterEqual(len(set(found) & set(accepted)), least, found)

    def test_what_comes_next_is_found_more_often_than_by_popularity(self) -> None:
        # The line of each user: a history, and the film that followed.
        lines = [
            json.loads(line)
            for line in self.bundle.with_name(self.bundle.name + ".eval.jsonl").read_text().splitlines()
        ][:600]
        popular = [item["item_id"] for item in self.server.recommend(n=500)["items"]]
        ours = theirs = 0
        for line in lines:
            request = {
                key: line[key] for key in ("user_id", "history", "now", "user", "context") if key in line
            }
            seen = {event["item_id"] for event in line.get("history", [])}
            ours += line["target"] in [
                item["item_id"] for item in self.server.recommend(**request, n=10, fields=[])["items"]
            ]
            theirs += line["target"] in [item for item in popular if item not in seen][:10]
        print(f"  HR@10 of {len(lines)} users: {ours / len(lines):.4f}, popularity {theirs / len(lines):.4f}")
        self.assertGreater(ours, theirs)
