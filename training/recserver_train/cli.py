"""Command line: demo, ml-100k, ml-1m, conformance, delta, feedback."""

import argparse
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="train", description="Trains a model bundle on the CPU.")
    commands = root.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo", help="the bundle of a generated film catalogue; the same seed gives the same bundle"
    )
    demo.add_argument("--seed", type=int, default=7)
    for name, text in (
        ("ml-100k", "MovieLens 100K: ratings and times"),
        ("ml-1m", "MovieLens 1M: order only"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--data", type=Path, required=True, help="the folder with the data set's files")
        command.add_argument("--minutes", type=float, help="how long to train, by the clock")
        command.add_argument(
            "--processor-clock",
            action="store_true",
            help="count the minutes as processor time over all cores, for a busy machine",
        )
        command.add_argument("--quick", action="store_true", help="a short run")
    conformance = commands.add_parser(
        "conformance", help="tiny bundles with random weights that use every choice of the format"
    )
    conformance.add_argument("--out", type=Path, required=True, help="the folder for one bundle per case")
    delta = commands.add_parser("delta", help="the smallest bundle that makes one bundle of another")
    delta.add_argument("--base", type=Path, required=True, help="the bundle that the delta stands on")
    delta.add_argument("--new", type=Path, required=True, help="the bundle that the delta makes of it")
    delta.add_argument(
        "--bases", type=Path, nargs="*", default=[], help="where the bases of these two are, if they are deltas"
    )
    delta.add_argument("--out", type=Path, required=True, help="the folder, replaced if it is there")
    feedback = commands.add_parser(
        "feedback", help="what was shown and what users did about it, joined; with --train a bundle of it"
    )
    feedback.add_argument("--slates", type=Path, required=True, help="the server's feedback_dir")
    feedback.add_argument("--events", type=Path, required=True, help="the events, from `recserver state export`")
    feedback.add_argument("--bundle", type=Path, required=True, help="the bundle that served: its catalogue counts")
    feedback.add_argument("--window", type=float, default=86_400, help="seconds after a slate that count for it")
    feedback.add_argument("--train", action="store_true", help="also train a bundle, OUT/bundle")
    feedback.add_argument("--quick", action="store_true", help="a short run")
    feedback.add_argument("--out", type=Path, required=True, help="the folder for the labelled impressions")
    for command in (c for c in commands.choices.values() if c not in (conformance, delta, feedback)):
        command.add_argument(
            "--resume",
            action="store_true",
            help="train the ranker only, on the towers and sequence model kept",
        )
        command.add_argument(
            "--out", type=Path, required=True, help="the bundle's folder, replaced if it is there"
        )
    return root


def train_on_feedback(options: argparse.Namespace) -> None:
    """Joins slates with events, tells what became of them, and trains when asked to."""
    from . import feedback

    events = feedback.read_events(options.events)
    joined = feedback.join(feedback.read_slates(options.slates), events, options.window)
    log = feedback.interaction_log(events, options.bundle)
    feedback.write(joined, log, options.out)
    clicked = sum(impression.is_clicked for impression in joined.impressions)
    print(f"{len(joined.impressions)} impressions, {clicked} with actions; {len(events)} events,")
    print(f"{len(joined.credited)} credited", *(f"{n} {why}" for why, n in sorted(joined.refused.items())), sep=", ")
    if options.train:
        from . import recipes
        from .build import build

        build(log, recipes.feedback(log, options.quick), options.out / "bundle")


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.command == "conformance":
        from .conformance import write_all

        write_all(options.out)
        return 0
    if options.command == "delta":
        from .delta import write_delta

        sizes = write_delta(options.base, options.new, options.out, options.bases)
        print(", ".join(f"{kind} {size:,} bytes" for kind, size in sizes.items()))
        return 0
    if options.command == "feedback":
        train_on_feedback(options)
        return 0
    from . import recipes
    from .build import build

    match options.command:
        case "demo":
            from .demo_catalogue import make_demo

            log = make_demo(options.seed)
            recipe = recipes.demo(log)
        case "ml-100k":
            from .movielens import read_100k

            log = read_100k(options.data)
            recipe = recipes.movielens_100k(log, options.minutes, options.quick)
        case _:
            from .movielens import read_1m

            log = read_1m(options.data)
            recipe = recipes.movielens_1m(log, options.minutes, options.quick)
    recipe.processor_clock = getattr(options, "processor_clock", False)
    build(log, recipe, options.out, options.resume)
    return 0
