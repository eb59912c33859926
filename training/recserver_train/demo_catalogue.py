"""The generated world of the demo bundle: a film catalogue, people with tastes, and what they watched.

Everything follows from one seed. People have one or two favourite genres, a favourite theme and era in each,
moods of the day, and watch in sittings that stay near one theme; films have a hidden quality and tone. None
of that reaches the trainer except through the log.
"""

from dataclasses import dataclass

import numpy as np

from .data import Attribute, InteractionLog
from .demo_words import GENRES, LANGUAGES, PAIRS, SLUGS, STUDIOS

NAMES = list(GENRES)
DAYPARTS = ["morning", "afternoon", "evening", "night"]
NOT_THEMES = ("adjectives", "places")
DAY = 86_400.0
FIRST_DAY = 1_735_689_600.0  # 2025-01-01
LAST_DAY = FIRST_DAY + 480 * DAY


@dataclass
class Catalogue:
    """The films and what only the generator knows of them."""

    titles: list[str]
    genres: list[list[str]]
    genre: np.ndarray
    theme: np.ndarray
    year: np.ndarray
    studio: list[str]
    language: np.ndarray
    tone: np.ndarray
    quality: np.ndarray
    appeal: np.ndarray


def slug(genre: str) -> str:
    return SLUGS.get(genre, genre.lower())


def word(text: str) -> str:
    """Grammar words join parts by hyphens; titles use spaces."""
    return text.replace("-", " ")


def titles_of(rng: np.random.Generator, genre: str, count: int) -> list[tuple[str, int]]:
    """`count` different titles of a genre, each with its theme."""
    words = GENRES[genre]
    themes = [t for t in words if t not in NOT_THEMES]
    made: dict[str, int] = {}
    while len(made) < count:
        theme = int(rng.integers(3))
        noun, other = (word(str(n)) for n in rng.choice(words[themes[theme]], 2, replace=False))
        adjective, place = word(str(rng.choice(words["adjectives"]))), str(rng.choice(words["places"]))
        patterns = [
            f"The {adjective} {noun}",
            f"{adjective} {noun}",
            f"{noun} of {place}",
            f"The {noun} and the {other}",
            f"Return to {place}: {noun}",
            f"The {noun} from {place}",
        ]
        title = patterns[rng.choice(6, p=[0.4, 0.22, 0.16, 0.06, 0.06, 0.1])]
        made.setdefault(title, theme)
    return list(made.items())


def make_catalogue(rng: np.random.Generator, count: int) -> Catalogue:
    """`count` films over all genres; a third also carry the genre of a usual companion."""
    shares = rng.dirichlet(np.full(len(NAMES), 40.0))
    sizes = np.floor(shares * count).astype(int)
    sizes[0] += count - sizes.sum()
    companions = {g: sorted({b for a, b in PAIRS if a == g} | {a for a, b in PAIRS if b == g}) for g in NAMES}
    rows: list[tuple[str, int, int]] = []
    for index, name in enumerate(NAMES):
        rows += [(title, index, theme) for title, theme in titles_of(rng, name, int(sizes[index]))]
    rows = [rows[i] for i in rng.permutation(count)]
    genre = np.array([r[1] for r in rows])
    lists = [[NAMES[g]] for g in genre]
    for i in np.flatnonzero(rng.random(count) < 0.33):
        lists[i].append(str(rng.choice(companions[NAMES[genre[i]]])))
    year = np.clip(2026 - np.floor(rng.exponential(16, count)), 1931, 2025).astype(int)
    home = rng.integers(0, len(STUDIOS), (len(NAMES), 4))
    studio = np.where(
        rng.random(count) < 0.7, home[genre, rng.integers(0, 4, count)], rng.integers(0, len(STUDIOS), count)
    )
    language = np.where(rng.random(count) < 0.6, 0, rng.integers(1, len(LANGUAGES), count))
    rank = np.argsort(rng.random(count))
    quality = rng.normal(size=len(STUDIOS))[studio] + 0.6 * rng.normal(size=count)
    return Catalogue(
        [r[0] for r in rows],
        lists,
        genre,
        np.array([r[2] for r in rows]),
        year,
        [STUDIOS[s] for s in studio],
        language,
        rng.normal(size=(count, 3)),
        quality,
        (rank + 12.0) ** -0.75,
    )


@dataclass
class Person:
    """A viewer: genre weights, favourite theme per genre, era, tone and language."""

    name: str
    taste: np.ndarray
    theme: np.ndarray
    era: float
    tone: np.ndarray
    language: int
    age: int | None


def make_person(rng: np.random.Generator, name: str, favourites: list[int]) -> Person:
    taste = np.full(len(NAMES), 0.006)
    for position, genre in enumerate(favourites):
        taste[genre] += 0.6 if position == 0 else 0.45
    family = NAMES.index("Family") in favourites
    age = int(np.clip(rng.normal(38 if family else 34 + 4 * (favourites[0] % 5), 9), 14, 85))
    return Person(
        name,
        taste / taste.sum(),
        rng.integers(0, 3, len(NAMES)),
        float(np.clip(rng.normal(2008, 10), 1960, 2024)),
        rng.normal(size=3),
        int(rng.integers(len(LANGUAGES))),
        None if rng.random() < 0.1 else age,
    )


def make_people(rng: np.random.Generator, extra: int) -> tuple[list[Person], int]:
    """The people of the bundle first (their number is returned), then `extra` who only train the model."""
    people: list[Person] = []
    for genre, name in enumerate(NAMES):
        people += [make_person(rng, f"demo-{slug(name)}-{i + 1}", [genre]) for i in range(12)]
    for first, second in PAIRS:
        pair = [NAMES.index(first), NAMES.index(second)]
        people += [make_person(rng, f"demo-{slug(first)}-{slug(second)}-{i + 1}", pair) for i in range(12)]
    people += [make_person(rng, f"demo-new-{i + 1}", [int(rng.integers(len(NAMES)))]) for i in range(12)]
    exported = len(people)
    for i in range(extra):
        pair = PAIRS[int(rng.integers(len(PAIRS)))]
        favourites = [NAMES.index(g) for g in pair]
        if rng.random() < 0.5:
            favourites = [int(rng.integers(len(NAMES)))]
        people.append(make_person(rng, f"viewer-{i + 1}", favourites))
    return people, exported


class Viewing:
    """Draws what one person watches."""

    def __init__(self, rng: np.random.Generator, films: Catalogue) -> None:
        self.rng = rng
        self.films = films
        self.shelves: dict[tuple[int, int], np.ndarray] = {}
        for genre in range(len(NAMES)):
            for theme in range(3):
                self.shelves[genre, theme] = np.flatnonzero((films.genre == genre) & (films.theme == theme))
        self.sums = {key: np.cumsum(films.appeal[rows]) for key, rows in self.shelves.items()}
        boost = {
            "Horror": (0.3, 0.5, 1, 2.2),
            "Thriller": (0.5, 0.7, 1.2, 1.6),
            "Family": (2.5, 1.8, 0.8, 0.2),
            "Documentary": (1.3, 1.3, 1, 0.7),
            "Comedy": (0.8, 1, 1.4, 1),
        }
        self.daypart = np.array([boost.get(name, (1, 1, 1, 1)) for name in NAMES])

    def draw(self, person: Person, genre: int, theme: int, last: int | None, seen: set[int]) -> int | None:
        """The best of a few films from one shelf, by tone, era and language; None if all are known."""
        shelf, sums = self.shelves[genre, theme], self.sums[genre, theme]
        picks = shelf[np.searchsorted(sums, self.rng.random(5) * sums[-1])]
        picks = np.array([p for p in picks if int(p) not in seen])
        if not len(picks):
            return None
        films = self.films
        score = films.tone[picks] @ person.tone * 0.4 + films.quality[picks] * 0.3
        score = (
            score
            - np.abs(films.year[picks] - person.era) / 12
            + 0.5 * (films.language[picks] == person.language)
        )
        if last is not None:
            score = score - 0.35 * ((films.tone[picks] - films.tone[last]) ** 2).sum(-1)
        return int(picks[np.argmax(score + self.rng.gumbel(size=len(picks)) * 0.5)])

    def history(self, person: Person, length: int) -> list[tuple[int, int, float, int]]:
        """`length` events (film, action, time, daypart), oldest first."""
        rng, events, seen = self.rng, [], set()
        last: int | None = None
        now = FIRST_DAY + rng.random() * 150 * DAY
        while len(events) < length and now < LAST_DAY:
            part = int(rng.choice(4, p=[0.12, 0.2, 0.43, 0.25]))
            clock = np.floor(now / DAY) * DAY + (7, 13, 19, 23)[part] * 3600 + rng.random() * 3600
            weights = person.taste * self.daypart[:, part]
            genre = int(rng.choice(len(NAMES), p=weights / weights.sum()))
            theme = int(person.theme[genre]) if rng.random() < 0.55 else int(rng.integers(3))
            for _ in range(1 + int(rng.poisson(1.6))):
                film = self.draw(person, genre, theme, last, seen)
                if film is None or len(events) >= length:
                    continue
                seen.add(film)
                affinity = (
                    1.5 * person.taste[genre]
                    + 1.4 * self.films.quality[film]
                    + 0.5 * self.films.tone[film] @ person.tone
                )
                liked = rng.random() < 1 / (1 + np.exp(1.2 - affinity))
                events.append((film, 2 if liked else 1, clock, part))
                last = film
                clock += 3600 * (1.4 + rng.random())
            now = clock + DAY * min(float(rng.lognormal(0.3, 1.3)), 240)
        return events


def make_demo(seed: int = 7, films: int = 12_000, viewers: int = 7_000) -> InteractionLog:
    """The demo's interaction log."""
    rng = np.random.default_rng(seed)
    catalogue = make_catalogue(rng, films)
    people, exported = make_people(rng, viewers)
    viewing = Viewing(rng, catalogue)
    histories = []
    for index, person in enumerate(people):
        new = person.name.startswith("demo-new-")
        length = 0 if new else int(np.clip(rng.lognormal(3.75, 0.55), 8, 160))
        histories.append(viewing.history(person, min(length, 110) if index < exported else length))
    events = [event for history in histories for event in history]
    offsets = np.concatenate([[0], np.cumsum([len(h) for h in histories])])
    items, actions, times, parts = (np.array([e[i] for e in events]) for i in range(4))
    width = len(str(films))
    return InteractionLog(
        name="demo",
        item_ids=[f"film-{i + 1:0{width}d}" for i in range(films)],
        item_attributes=[
            Attribute("title", "string", catalogue.titles),
            Attribute("genres", "strings", catalogue.genres, filterable=True),
            Attribute("year", "number", [int(y) for y in catalogue.year], filterable=True),
            Attribute("studio", "string", catalogue.studio, filterable=True),
            Attribute("language", "string", [LANGUAGES[i] for i in catalogue.language], filterable=True),
        ],
        user_ids=[p.name for p in people],
        user_attributes=[
            Attribute("age", "number", [p.age for p in people]),
            Attribute("language", "string", [LANGUAGES[p.language] for p in people]),
        ],
        action_names=["unknown", "watch", "like"],
        offsets=offsets,
        items=items.astype(np.int32),
        actions=actions.astype(np.uint8),
        times=np.floor(times),
        liked=actions == 2,
        context=[Attribute("daypart", "string", [DAYPARTS[p] for p in parts])],
        exported_users=exported,
    )
