"""From a log and a recipe to a bundle: train, round, rank, write, check, evaluate."""

import shutil
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .bundle import BundleWriter, stored
from .checkpoint import resumed
from .data import InteractionLog, attribute_matrix, item_counts
from .dcn import RankerConfig
from .evaluate import Evaluation, report
from .golden import write_goldens, write_warmup
from .hstu import item_table
from .progress import Clock, say
from .ranker_training import train_ranker
from .recipes import Recipe
from .sequence_training import train_sequence
from .serving import Stages, moments
from .similar import similar_vectors
from .towers import feature_widths, item_vectors, train_towers

WEIGHTS, CATALOGUE = "model.safetensors", "catalogue.safetensors"


def rounded(tree: Any, precision: str) -> Any:
    """Every array as a reader of the bundle will see it."""
    return jax.tree.map(lambda a: jnp.asarray(stored(np.asarray(a), precision)), tree)


def build(log: InteractionLog, recipe: Recipe, out: Path, resume: bool = False) -> dict[str, Any]:
    """Trains and writes the bundle `out` and the evaluation file `out`.eval.jsonl; returns the metrics.

    Towers and sequence model are kept in `out`.parameters; with `resume` they are taken from there.
    """
    begin = time.monotonic()
    budget = None if recipe.minutes is None else recipe.minutes * 60
    attributes = attribute_matrix(log, recipe.attribute_groups, recipe.decade_of)
    split = recipe.split
    popularity = np.log1p(item_counts(log, split)).astype(np.float32)
    say(f"{log.name}: {log.item_count} items, {log.user_count} users, {len(log.items)} events")

    def clock(share: float) -> Clock | None:
        return None if budget is None else Clock(share * budget, recipe.processor_clock)

    kept = out.with_name(out.name + ".parameters")
    recipe.tower.widths = feature_widths(recipe.tower.inputs, {})
    tower = resumed(
        kept / "tower.safetensors",
        lambda: train_towers(
            log, split, recipe.tower, attributes, recipe.seed, recipe.tower_epochs, clock(0.12)
        ),
        resume,
    )
    vectors = stored(np.asarray(item_vectors(tower, jnp.asarray(attributes))), recipe.precision["item"])
    tower = {
        "tables": rounded(tower["tables"], recipe.precision["feature"]),
        "layers": rounded(tower["layers"], recipe.precision["weight"]),
    }

    sequence = resumed(
        kept / "sequence.safetensors",
        lambda: train_sequence(
            log,
            split.sequence_end,
            recipe.sequence,
            attributes,
            recipe.seed,
            recipe.sequence_epochs,
            clock(0.72),
            recipe.sequence_batch,
            recipe.learning_rate,
            recipe.target_weight,
        ),
        resume,
    )
    table = stored(np.asarray(item_table(sequence, jnp.asarray(attributes))), recipe.precision["sequence"])
    sequence = {k: v for k, v in sequence.items() if k not in ("item", "attribute")}
    sequence = {**rounded(sequence, recipe.precision["weight"]), "item": jnp.asarray(table)}

    similar = None
    if recipe.similar_dimension:
        # Without the decade: what was made in one year is not alike for that.
        kinds = attribute_matrix(log, recipe.attribute_groups)
        wanted = similar_vectors(log, split, kinds, recipe.similar_dimension)
        similar = stored(wanted, recipe.precision["item"])
    stages = Stages(
        log, recipe.tower, tower, vectors, recipe.sequence, sequence, popularity, recipe.retrieval, similar
    )
    rng = np.random.default_rng(recipe.seed + 1)
    train = rng.permutation(split.ranker_train)[: recipe.ranker_examples]
    valid = rng.permutation(split.ranker_valid)[: recipe.ranker_examples // 10]
    short = np.where(rng.random(len(train)) < 0.06, rng.integers(0, 4, len(train)), 1 << 30)
    config, ranker, tasks, quality = train_ranker(
        stages,
        recipe.ranker,
        tower["tables"],
        moments(log, train, short),
        moments(log, valid),
        recipe.seed,
        recipe.ranker_epochs,
    )
    ranker = {
        "tables": rounded(ranker["tables"], recipe.precision["feature"]),
        **{k: rounded(ranker[k], recipe.precision["weight"]) for k in ("cross", "deep", "head")},
    }

    evaluation = Evaluation(stages, config, ranker, tower["tables"], tasks, recipe.value)
    ranking = evaluation.run(split, recipe.evaluated_users)
    report(ranking, quality)
    info = {
        "trained_on": log.name,
        "users": log.user_count,
        "events": len(log.items),
        **recipe.info,
        "leave_last_out": ranking,
        "tasks": {k: {n: round(x, 4) for n, x in v.items()} for k, v in quality.items()},
    }
    write_bundle(
        log,
        recipe,
        out,
        {
            "tower": tower,
            "vectors": vectors,
            "similar": similar,
            "sequence": sequence,
            "table": table,
            "ranker": ranker,
            "config": config,
            "tasks": tasks,
            "popularity": popularity,
        },
        info,
    )
    evaluation.write(out.with_name(out.name + ".eval.jsonl"))
    say(f"{out}: written after {time.monotonic() - begin:.0f} s")
    return info


def manifest_of(
    log: InteractionLog,
    recipe: Recipe,
    config: RankerConfig,
    tasks: list[dict[str, Any]],
    info: dict[str, Any],
) -> dict[str, Any]:
    """The manifest without `files`."""
    features = {f.name: f for f in [*recipe.tower.inputs, *config.inputs]}
    return {
        "format_version": 1,
        "kind": "full",
        "model_version": recipe.model_version,
        "space_version": recipe.model_version,
        "info": info,
        "items": {"count": log.item_count, "attributes": [a.manifest() for a in log.item_attributes]},
        "users": {
            "count": log.exported_users,
            "attributes": [a.manifest() for a in log.user_attributes],
            "histories": True,
        },
        "features": [f.manifest() for f in features.values()],
        "retrieval": recipe.retrieval,
        "tower": {
            "inputs": [f.name for f in recipe.tower.inputs],
            "layers": 2,
            "activation": "relu",
            "normalize": "l2",
        },
        "sequence": recipe.sequence.manifest(),
        "ranker": {
            "family": "dcn_v2",
            "inputs": [f.name for f in config.inputs],
            "structure": config.structure,
            "cross_layers": config.cross_layers,
            "cross_rank": config.cross_rank,
            "deep": list(config.deep),
            "activation": "relu",
            "tasks": tasks,
        },
        "value": recipe.value,
        **({"placements": recipe.placements} if recipe.placements else {}),
        "tolerances": {"golden": 1e-4},
    }


def add_catalogue(
    writer: BundleWriter, log: InteractionLog, last: np.ndarray, popularity: np.ndarray
) -> None:
    """Ids, attributes, popularity, and users with their histories up to event `last[u]`."""
    file, users = CATALOGUE, log.exported_users
    writer.add_strings(file, "item_ids", log.item_ids)
    writer.add(file, "item.popularity", popularity, "F32")
    for attribute in log.item_attributes:
        writer.add_attribute(file, "item.attr", attribute, log.item_count)
    writer.add_strings(file, "user_ids", log.user_ids[:users])
    for attribute in log.user_attributes:
        writer.add_attribute(file, "user.attr", attribute, users)
    spans = [np.arange(log.offsets[u], last[u]) for u in range(users)]
    events = np.concatenate(spans).astype(np.int64)
    writer.add(
        file, "history.offsets", np.concatenate([[0], np.cumsum([len(s) for s in spans])]).astype(np.uint64)
    )
    writer.add(file, "history.items", log.items[events].astype(np.uint32))
    if len(log.action_names) > 1:
        writer.add(file, "history.actions", log.actions[events].astype(np.uint8))
    if log.times is not None:
        writer.add(file, "history.timestamps", log.times[events].astype(np.float64))


def add_models(writer: BundleWriter, recipe: Recipe, models: dict[str, Any]) -> None:
    """All weights and tables under the names of the format page."""
    file, kinds = WEIGHTS, recipe.precision
    weight = kinds["weight"]
    writer.add(file, "item.vector", models["vectors"], kinds["item"])
    if models["similar"] is not None:
        writer.add(file, "item.similar", models["similar"], kinds["item"])
    for name, table in {**models["ranker"]["tables"], **models["tower"]["tables"]}.items():
        writer.add(file, f"feature.{name}.weight", table, kinds["feature"])
    for i, layer in enumerate(models["tower"]["layers"]):
        for part in ("weight", "bias"):
            writer.add(file, f"tower.user.{i}.{part}", layer[part], weight)
    sequence = models["sequence"]
    writer.add(file, "sequence.item_embedding.weight", models["table"], kinds["sequence"])
    writer.add(file, "sequence.action_embedding.weight", sequence["action"], weight)
    writer.add(file, "sequence.position_embedding.weight", sequence["position"], weight)
    for i, layer in enumerate(sequence["layers"]):
        p = f"sequence.layers.{i}."
        for ours, theirs in (
            ("uvqk", "uvqk.weight"),
            ("output", "output.weight"),
            ("output_bias", "output.bias"),
            ("position_bias", "position_bias"),
            ("time_bias", "time_bias"),
        ):
            if ours in layer:
                writer.add(file, p + theirs, layer[ours], weight)
    head = sequence["target"]
    for ours, theirs in (
        ("norm", "norm.weight"),
        ("norm_bias", "norm.bias"),
        ("weight", "weight"),
        ("bias", "bias"),
    ):
        writer.add(file, "sequence.target." + theirs, head[ours], weight)
    ranker = models["ranker"]
    for i, layer in enumerate(ranker["cross"]):
        for part, array in layer.items():
            name = part if part in ("weight", "bias") else part + ".weight"
            writer.add(file, f"ranker.cross.{i}.{name}", array, weight)
    for i, layer in enumerate(ranker["deep"]):
        for part in ("weight", "bias"):
            writer.add(file, f"ranker.deep.{i}.{part}", layer[part], weight)
    for part in ("weight", "bias"):
        writer.add(file, f"ranker.head.{part}", ranker["head"][part], weight)


def write_bundle(
    log: InteractionLog, recipe: Recipe, out: Path, models: dict[str, Any], info: dict[str, Any]
) -> None:
    """Writes `out` anew: tensors, goldens from the written tensors, warm-up, manifest."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    writer = BundleWriter(partial)
    test = recipe.split.test
    add_catalogue(writer, log, np.where(test >= 0, test, log.offsets[1:]), models["popularity"])
    add_models(writer, recipe, models)
    manifest = manifest_of(log, recipe, models["config"], models["tasks"], info)
    writer.write(manifest)
    write_goldens(partial, log, recipe.sequence.max_events, recipe.goldens, recipe.golden_seed)
    write_warmup(partial, log)
    writer.write(manifest, ["golden.jsonl", "warmup.jsonl"])
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
