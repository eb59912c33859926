"""What is trained for each command: features, shapes, schedules."""

from dataclasses import dataclass, field
from typing import Any

from .data import InteractionLog, Split, split_by_order, split_by_time
from .dcn import RankerConfig
from .features import Feature, squash_feature
from .hstu import SequenceConfig
from .towers import TowerConfig


@dataclass
class Recipe:
    """Everything `build` needs besides the log. Epochs are limits; `minutes` shortens the training by the
    clock.
    """

    model_version: str
    split: Split
    tower: TowerConfig
    sequence: SequenceConfig
    ranker: RankerConfig
    retrieval: dict[str, Any]
    value: dict[str, Any]
    attribute_groups: list[str]
    decade_of: str | None
    precision: dict[str, str]
    tower_epochs: float
    sequence_epochs: int
    ranker_epochs: int = 6
    ranker_examples: int = 18_000
    sequence_batch: int = 32
    learning_rate: float = 1e-3
    target_weight: float = 0.5
    similar_dimension: int = 0
    """Factors of the item-to-item vectors; 0: neighbours are looked for among the tower's vectors."""
    minutes: float | None = None
    processor_clock: bool = False
    goldens: int = 220
    golden_seed: int = 11
    seed: int = 1
    placements: dict[str, Any] = field(default_factory=dict)
    """Named profiles of pages, as the manifest has them."""
    evaluated_users: int = 10_000
    info: dict[str, Any] = field(default_factory=dict)


def words(log: InteractionLog, owner: str, name: str) -> list[str]:
    """The different strings of an attribute, in order."""
    table = {"item": log.item_attributes, "user": log.user_attributes, "context": log.context}[owner]
    values = next(a.values for a in table if a.name == name)
    return sorted({w for v in values if v is not None for w in (v if isinstance(v, list) else [v])})


def numbers(log: InteractionLog, name: str) -> list[Any]:
    return next(a.values for a in log.item_attributes if a.name == name)


def user_row(dimension: int) -> Feature:
    return Feature("user_row", "user_id", "row", {"dimension": dimension})


def recent(name: str, dimension: int, last: int, actions: list[str] | None = None) -> Feature:
    options: dict[str, Any] = {
        "table": "item.vector",
        "dimension": dimension,
        "last": last,
        "pooling": "mean",
    }
    return Feature(name, "history", "pool", options | ({"actions": actions} if actions else {}))


def stage(name: str, value: str) -> Feature:
    return Feature(name, "stage", "stage", {"stage": value})


STAGES = [
    stage("tower_score", "tower.score"),
    stage("sequence_dot", "sequence.dot"),
    stage("sequence_score", "sequence.score"),
    stage("sequence_vector", "sequence.vector"),
    stage("popularity", "item.popularity"),
]


DEMO_PLACEMENTS: dict[str, Any] = {
    # A mixed page: nobody's whole page comes from one studio.
    "home": {"diversity": 0.2, "caps": [{"attribute": "studio", "max": 3}]},
    # Films of the last years, the newest before the others.
    "new-releases": {
        "filter": {"field": "year", "gte": 2018},
        "boosts": [{"filter": {"field": "year", "gte": 2023}, "factor": 1.5}],
        "quotas": {"popular": 100},
    },
    # An editor's choice in the first and third place, the rest for those who like what they watch.
    "spotlight": {
        "weights": {"watch": 0.5, "like": 1.0},
        "pins": [
            {"position": 1, "item_id": "film-00042"},
            {"position": 3, "item_ids": ["film-00108", "film-00500"]},
        ],
    },
}


def genres(log: InteractionLog, dimension: int = 8) -> Feature:
    return Feature(
        "genres",
        "item",
        "vocabulary",
        {"vocabulary": words(log, "item", "genres"), "dimension": dimension, "pooling": "mean"},
    )


def demo(log: InteractionLog) -> Recipe:
    """Small and made again byte for byte by its seed: epochs, never the clock."""
    d = 32
    age = Feature("age", "user", "bins", {"boundaries": [18, 25, 32, 40, 50, 65], "dimension": 4})
    language = Feature(
        "viewer_language",
        "user",
        "vocabulary",
        {"key": "language", "vocabulary": words(log, "user", "language"), "dimension": 4},
    )
    daypart = Feature(
        "daypart", "context", "vocabulary", {"vocabulary": words(log, "context", "daypart"), "dimension": 4}
    )
    tower = [
        user_row(8),
        age,
        language,
        daypart,
        recent("recent", d, 30),
        recent("recent_liked", d, 20, ["like"]),
    ]
    ranker = [
        *tower[:5],
        genres(log, 6),
        squash_feature("year", "item", "identity", numbers(log, "year")),
        Feature("studio", "item", "hash", {"buckets": 64, "dimension": 4}),
        Feature(
            "item_language",
            "item",
            "vocabulary",
            {"key": "language", "vocabulary": words(log, "item", "language"), "dimension": 4},
        ),
        *STAGES,
    ]
    return Recipe(
        model_version="demo-1",
        split=split_by_time(log, 0.85, 0.93),
        tower=TowerConfig(tower, dimension=d, hidden=64),
        sequence=SequenceConfig(
            dimension=d,
            layers=2,
            heads=2,
            qk_dimension=16,
            value_dimension=16,
            max_events=64,
            window_block=16,
            actions=tuple(log.action_names),
            time_bias=True,
        ),
        ranker=RankerConfig(ranker, ["watch", "like"], structure="parallel", cross_layers=2, deep=(64, 32)),
        retrieval={
            "metric": "inner_product",
            "dimension": d,
            "candidates": 500,
            "shortlist_factor": 4,
            "index": {"kind": "ivfpq", "lists": 128, "subquantizers": 16, "bits": 8, "probes": 16},
            "sources": {"tower": 300, "sequence": 300, "item_to_item": 90, "popular": 30},
        },
        value={"form": "power", "weights": {"watch": 1.0, "like": 0.2}},
        attribute_groups=["genres", "language"],
        decade_of="year",
        precision={"item": "I8", "sequence": "I8", "feature": "F16", "weight": "F16"},
        tower_epochs=3,
        sequence_epochs=7,
        ranker_epochs=4,
        ranker_examples=16_000,
        learning_rate=2e-3,
        placements=DEMO_PLACEMENTS,
        evaluated_users=2000,
    )


def movielens_100k(log: InteractionLog, minutes: float | None, quick: bool) -> Recipe:
    d = 32
    gender = Feature("gender", "user", "vocabulary", {"vocabulary": ["F", "M"], "dimension": 4})
    age = Feature("age", "user", "bins", {"boundaries": [18, 25, 35, 45, 50, 56], "dimension": 4})
    occupation = Feature(
        "occupation", "user", "vocabulary", {"vocabulary": words(log, "user", "occupation"), "dimension": 4}
    )
    tower = [
        user_row(16),
        gender,
        age,
        occupation,
        recent("recent", d, 50),
        recent("recent_liked", d, 50, ["like"]),
    ]
    ranker = [
        *tower,
        genres(log),
        squash_feature("year", "item", "identity", numbers(log, "year")),
        Feature("item_row", "item_id", "row", {"dimension": 8}),
        *STAGES,
    ]
    return Recipe(
        model_version="ml-100k-1",
        split=split_by_time(log),
        tower=TowerConfig(tower, dimension=d),
        sequence=SequenceConfig(
            dimension=48,
            layers=2,
            heads=2,
            qk_dimension=24,
            value_dimension=24,
            max_events=200,
            window_block=32,
            actions=tuple(log.action_names),
            time_bias=True,
            dropout=0.3,
        ),
        ranker=RankerConfig(
            ranker, ["watch", "like"], structure="parallel", cross_layers=2, cross_rank=32, deep=(128, 64)
        ),
        retrieval={
            "metric": "inner_product",
            "dimension": d,
            "candidates": 300,
            "shortlist_factor": 4,
            "index": {"kind": "flat"},
            "sources": {"tower": 200, "sequence": 200, "item_to_item": 60, "popular": 30},
        },
        value={"form": "log", "weights": {"watch": 1.0, "like": 0.1}},
        attribute_groups=["genres"],
        decade_of="year",
        precision={"item": "F16", "sequence": "F16", "feature": "F16", "weight": "F32"},
        tower_epochs=5 if quick else 10,
        sequence_epochs=12 if quick else 30,
        ranker_epochs=4,
        minutes=minutes,
        ranker_examples=10_000,
        similar_dimension=48,
        target_weight=0.5,
    )


def movielens_1m(log: InteractionLog, minutes: float | None, quick: bool) -> Recipe:
    d = 48
    gender = Feature("gender", "user", "vocabulary", {"vocabulary": ["F", "M"], "dimension": 4})
    age = Feature("age", "user", "bins", {"boundaries": [18, 25, 35, 45, 50, 56], "dimension": 4})
    occupation = Feature(
        "occupation", "user", "vocabulary", {"vocabulary": [str(i) for i in range(21)], "dimension": 4}
    )
    tower = [user_row(16), gender, age, occupation, recent("recent", d, 20), recent("recent_long", d, 200)]
    ranker = [
        *tower[:5],
        genres(log),
        squash_feature("year", "item", "identity", numbers(log, "year")),
        *STAGES,
    ]
    return Recipe(
        model_version="ml-1m-1",
        split=split_by_order(log),
        tower=TowerConfig(tower, dimension=d),
        sequence=SequenceConfig(
            dimension=64,
            layers=2,
            heads=2,
            qk_dimension=32,
            value_dimension=32,
            max_events=200,
            window_block=32,
            actions=tuple(log.action_names),
        ),
        ranker=RankerConfig(ranker, ["watch"], structure="parallel", cross_layers=2, deep=(128, 64)),
        retrieval={
            "metric": "inner_product",
            "dimension": d,
            "candidates": 500,
            "shortlist_factor": 4,
            "index": {"kind": "flat"},
            "sources": {"tower": 300, "sequence": 300, "item_to_item": 90, "popular": 30},
        },
        value={"form": "linear", "weights": {"watch": 1.0}},
        attribute_groups=["genres"],
        decade_of="year",
        precision={"item": "F16", "sequence": "F16", "feature": "F16", "weight": "F32"},
        tower_epochs=2,
        sequence_epochs=100,
        ranker_epochs=3,
        ranker_examples=24_000,
        similar_dimension=48,
        minutes=6 if quick else minutes or 30,
    )


def feedback(log: InteractionLog, quick: bool) -> Recipe:
    """For any catalogue: what users did, item popularity, and no features but the user's own history."""
    d = 32
    tasks = ["watch", "like"] if log.liked is not None else ["watch"]
    tower = [user_row(8), recent("recent", d, 30)]
    sources = {"tower": 300, "sequence": 300, "item_to_item": 90, "popular": 30}
    split = split_by_time(log)
    if not len(split.ranker_train) or not len(split.ranker_valid):
        # A short log may have nothing but users' last events, which test, in its last part.
        split = split_by_order(log)
    return Recipe(
        model_version="feedback-1",
        split=split,
        tower=TowerConfig(tower, dimension=d),
        sequence=SequenceConfig(
            dimension=d,
            layers=2,
            heads=2,
            qk_dimension=16,
            value_dimension=16,
            max_events=64,
            window_block=16,
            actions=tuple(log.action_names),
            time_bias=True,
        ),
        ranker=RankerConfig([*tower, *STAGES], tasks, structure="parallel", cross_layers=2, deep=(64, 32)),
        retrieval={
            "metric": "inner_product",
            "dimension": d,
            "candidates": min(500, log.item_count),
            "shortlist_factor": 4,
            "index": {"kind": "flat"},
            "sources": {k: min(v, log.item_count) for k, v in sources.items()},
        },
        value={"form": "linear", "weights": {"watch": 1.0}},
        attribute_groups=[a.name for a in log.item_attributes if a.filterable and a.type in ("string", "strings")],
        decade_of=None,
        precision={"item": "F16", "sequence": "F16", "feature": "F16", "weight": "F32"},
        tower_epochs=1 if quick else 5,
        sequence_epochs=1 if quick else 20,
        ranker_epochs=1 if quick else 4,
        ranker_examples=1000 if quick else 18_000,
        goldens=20 if quick else 220,
        evaluated_users=100 if quick else 10_000,
    )
