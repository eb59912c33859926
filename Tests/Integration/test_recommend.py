"""What /recommend and /similar answer on the demo bundle, against what the bundle's files say."""

import math
import time
from collections import Counter
from typing import Any

import harness
from harness import NOW, catalogue

SLUGS = {"Science Fiction": "scifi"}
GENRES = [
    "Horror",
    "Science Fiction",
    "Romance",
    "Comedy",
    "Drama",
    "Action",
    "Thriller",
    "Fantasy",
    "Family",
    "Documentary",
    "Mystery",
    "Western",
    "Crime",
    "Musical",
]


def ids(answer: Any) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def scores(answer: Any) -> dict[str, float]:
    return {item["item_id"]: item["score"] for item in answer["items"]}


def genres(item: str) -> set[str]:
    return set(catalogue().words("genres")[catalogue().row[item]])


def year(item: str) -> float:
    return catalogue().numbers("year")[catalogue().row[item]]


class Taste(harness.Case):
    def test_people_get_films_of_their_genre(self) -> None:
        shares = []
        for genre in GENRES:
            for number in range(1, 7):
                answer = self.daemon.recommend(
                    user_id=f"demo-{SLUGS.get(genre, genre.lower())}-{number}", n=10
                )
                share = sum(genre in genres(item) for item in ids(answer)) / 10
                shares.append(share)
                self.assertEqual(answer["score_kind"], "value")
                self.assertEqual(answer["degraded"], [])
        self.assertGreater(sum(shares) / len(shares), 0.7)
        self.assertGreater(sum(share >= 0.5 for share in shares) / len(shares), 0.8)

    def test_similar_films_share_a_genre(self) -> None:
        shares = []
        for item in catalogue().items[:: len(catalogue().items) // 50]:
            answer = self.daemon.similar(item, "?n=10")
            self.assertNotIn(item, ids(answer))
            self.assertEqual(len(set(ids(answer))), 10)
            values = [i["score"] for i in answer["items"]]
            self.assertEqual(values, sorted(values, reverse=True))
            shares.append(sum(bool(genres(other) & genres(item)) for other in ids(answer)) / 10)
        self.assertGreater(sum(shares) / len(shares), 0.8)

    def test_somebody_new_gets_the_popular_films(self) -> None:
        popularity = catalogue().tensors["item.popularity"]
        best = [
            catalogue().items[row]
            for row in sorted(range(len(popularity)), key=lambda r: (-popularity[r], r))[:20]
        ]
        # What others post to the shared one changes what is popular.
        daemon = self.start("--deadline-ms", "10000")
        for request in [
            {},
            {"user_id": "nobody-knows-me"},
            {"history": []},
            {"user_id": "nobody", "history": [{"item_id": "no-such"}]},
        ]:
            with self.subTest(request=request):
                answer = daemon.recommend(**request)
                self.assertEqual(answer["score_kind"], "popularity")
                self.assertEqual(ids(answer), best)
                self.assertEqual(answer["degraded"], [])

    def test_what_happened_in_the_session_changes_the_answer(self) -> None:
        horror = [item for item in catalogue().items if genres(item) == {"Horror"}][:6]
        session = [
            {"item_id": item, "action": "like", "timestamp": NOW - 60 + i} for i, item in enumerate(horror)
        ]

        def share(answer: Any) -> int:
            return sum("Horror" in genres(item) for item in ids(answer))

        for user, is_new in [("demo-romance-1", False), ("demo-new-1", True), ("unknown-person", True)]:
            with self.subTest(user=user):
                before = self.daemon.recommend(user_id=user)
                after = self.daemon.recommend(user_id=user, session=session)
                self.assertNotEqual(ids(before), ids(after))
                self.assertFalse(set(horror) & set(ids(after)))
                self.assertEqual(after["history"]["events"], before["history"]["events"] + 6)
                if is_new:
                    self.assertGreater(share(after), share(before))
                    self.assertGreater(share(after), 10)
                # Nothing of it stays.
                self.assertEqual(self.daemon.recommend(user_id=user)["items"], before["items"])

    def test_a_basket_finds_its_like(self) -> None:
        westerns = [item for item in catalogue().items if genres(item) == {"Western"}][:5]
        answer = self.daemon.recommend(query_items=westerns, n=20)
        self.assertGreater(sum("Western" in genres(item) for item in ids(answer)), 10)


class Fields(harness.Case):
    def test_n_is_how_many(self) -> None:
        for n in [1, 2, 20, 137, 500]:
            for user in ["demo-drama-1", "nobody"]:
                answer = self.daemon.recommend(user_id=user, n=n, fields=[])
                self.assertEqual(len(set(ids(answer))), n)
                self.assertFalse(answer["short"])
        self.assertEqual(len(self.daemon.recommend(user_id="demo-drama-1")["items"]), 20)

    def test_best_first(self) -> None:
        for user in ["demo-drama-2", "nobody"]:
            values = [item["score"] for item in self.daemon.recommend(user_id=user, n=200)["items"]]
            self.assertEqual(values, sorted(values, reverse=True))

    def test_fields_are_the_attributes_of_the_bundle(self) -> None:
        answer = self.daemon.recommend(
            user_id="demo-crime-1", fields=["title", "genres", "year", "studio", "language", "no_such"], n=50
        )
        for item in answer["items"]:
            row = catalogue().row[item["item_id"]]
            self.assertEqual(
                item["attributes"],
                {
                    "title": catalogue().words("title")[row][0],
                    "genres": catalogue().words("genres")[row],
                    "year": catalogue().numbers("year")[row],
                    "studio": catalogue().words("studio")[row][0],
                    "language": catalogue().words("language")[row][0],
                },
            )
        for item in self.daemon.recommend(user_id="demo-crime-1", fields=[], n=3)["items"]:
            self.assertNotIn("attributes", item)
        for item in self.daemon.recommend(user_id="demo-crime-1", n=3)["items"]:
            self.assertEqual(list(item["attributes"]), ["title"])
        for item in self.daemon.similar("film-00001", "?fields=&n=3")["items"]:
            self.assertNotIn("attributes", item)
        for item in self.daemon.similar("film-00001", "?fields=year&fields=title&n=3")["items"]:
            self.assertEqual(set(item["attributes"]), {"year", "title"})

    def test_excluded_items_never_come_back(self) -> None:
        first = ids(self.daemon.recommend(user_id="demo-action-1", n=100))
        second = ids(self.daemon.recommend(user_id="demo-action-1", n=100, exclude=first))
        self.assertFalse(set(first) & set(second))
        self.assertEqual(len(second), 100)
        popular = ids(self.daemon.recommend(n=30))
        self.assertEqual(ids(self.daemon.recommend(n=20, exclude=popular[:10])), popular[10:30])
        near = ids(self.daemon.similar("film-00042", "?n=5"))
        query = "?n=5" + "".join(f"&exclude={item}" for item in near)
        self.assertFalse(set(near) & set(ids(self.daemon.similar("film-00042", query))))

    def test_seen_items_are_left_out_by_rule(self) -> None:
        seen = [
            ("film-00011", "watch", 100),
            ("film-00012", "like", 100),
            ("film-00013", "like", 5000),
            ("film-00014", None, None),
        ]
        history = [
            {"item_id": i, "action": a, "timestamp": None if t is None else NOW - t} for i, a, t in seen
        ]
        every = {i for i, _, _ in seen}
        for rule, left in [
            (None, every),
            (False, every),
            (True, set()),
            ({}, set()),
            ({"actions": ["like"]}, {"film-00011", "film-00014"}),
            ({"within_s": 1000}, {"film-00013"}),
            ({"actions": ["like"], "within_s": 1000}, {"film-00011", "film-00013", "film-00014"}),
            ({"actions": []}, every),
        ]:
            with self.subTest(rule=rule):
                answer = self.daemon.recommend(
                    history=history, candidates=[{"item_id": i} for i in every], exclude_seen=rule
                )
                self.assertEqual(set(ids(answer)), left)
        # Without candidates what was seen is left out unless the request says otherwise.
        own = {event["item_id"] for event in catalogue().history("demo-western-1")}
        self.assertFalse(own & set(ids(self.daemon.recommend(user_id="demo-western-1", n=500))))
        self.assertTrue(
            own & set(ids(self.daemon.recommend(user_id="demo-western-1", n=500, exclude_seen=False)))
        )

    def test_filters_select_exactly_what_they_say(self) -> None:
        films = catalogue()
        languages, studios = films.words("language"), films.words("studio")
        cases = [
            ({"field": "genres", "in": ["Musical"]}, lambda r: "Musical" in films.words("genres")[r]),
            ({"field": "year", "gte": 1990, "lt": 2000}, lambda r: 1990 <= films.numbers("year")[r] < 2000),
            ({"field": "year", "gt": 1990, "lte": 2000}, lambda r: 1990 < films.numbers("year")[r] <= 2000),
            ({"field": "year", "in": [1984, 2001]}, lambda r: films.numbers("year")[r] in (1984, 2001)),
            (
                {"not": {"field": "genres", "in": ["Drama", "Comedy"]}},
                lambda r: not {"Drama", "Comedy"} & set(films.words("genres")[r]),
            ),
            (
                {"any": [{"field": "language", "in": ["Korean"]}, {"field": "studio", "in": ["Foxhole"]}]},
                lambda r: "Korean" in languages[r] or "Foxhole" in studios[r],
            ),
            (
                {
                    "all": [
                        {"field": "language", "in": ["Hindi"]},
                        {"field": "genres", "in": ["Western"]},
                        {"field": "year", "gte": 2015},
                    ]
                },
                lambda r: (
                    "Hindi" in languages[r]
                    and "Western" in films.words("genres")[r]
                    and films.numbers("year")[r] >= 2015
                ),
            ),
            ({"all": []}, lambda r: True),
            ({"any": []}, lambda r: False),
            ({"field": "language", "in": []}, lambda r: False),
            ({"field": "language", "in": ["Klingon"]}, lambda r: False),
        ]
        for filter_, matches in cases:
            wanted = {item for row, item in enumerate(films.items) if matches(row)}
            for user in ["demo-western-2", "nobody"]:
                with self.subTest(filter=filter_, user=user):
                    answer = self.daemon.recommend(
                        user_id=user, filter=filter_, n=500, exclude_seen=False, fields=[]
                    )
                    self.assertLessEqual(set(ids(answer)), wanted)
                    self.assertEqual(len(set(ids(answer))), min(500, len(wanted)))
                    self.assertEqual(answer["short"], len(wanted) < 500)
            chosen = [{"item_id": item} for item in films.items[:2000]]
            answer = self.daemon.recommend(
                user_id="demo-western-2", filter=filter_, candidates=chosen, fields=[]
            )
            self.assertEqual(set(ids(answer)), wanted & set(films.items[:2000]))

    def test_a_filter_on_similar_items(self) -> None:
        answer = self.daemon.similar(
            "film-00042", "?n=50&filter=%7B%22field%22%3A%22year%22%2C%22gte%22%3A2015%7D"
        )
        self.assertEqual(len(answer["items"]), 50)
        self.assertTrue(all(year(item) >= 2015 for item in ids(answer)))


class Scores(harness.Case):
    CHOSEN = [{"item_id": f"film-{i:05}"} for i in range(1, 12_000, 97)]

    def test_the_same_request_gets_the_same_answer(self) -> None:
        for request in [
            {"user_id": "demo-mystery-1", "n": 100},
            {"user_id": "demo-new-2", "n": 50},
            {"query_items": ["film-00099"]},
            {"user_id": "demo-fantasy-3", "candidates": self.CHOSEN},
            {"user_id": "demo-thriller-1", "diversity": 0.5},
        ]:
            first = self.daemon.recommend(**request)
            # Other requests in between must leave nothing behind.
            self.daemon.recommend(user_id="demo-horror-1", n=500)
            self.daemon.recommend(candidates=self.CHOSEN[:3], user_id="demo-comedy-1")
            second = self.daemon.recommend(**request)
            self.assertEqual(first["items"], second["items"])
            self.assertNotEqual(first["recommendation_id"], second["recommendation_id"])

    def test_a_score_does_not_depend_on_the_other_candidates(self) -> None:
        whole = scores(self.daemon.recommend(user_id="demo-musical-1", candidates=self.CHOSEN))
        self.assertEqual(len(whole), len(self.CHOSEN))
        for size in [1, 2, 7, 64, 65]:
            part = self.CHOSEN[5 : 5 + size]
            answer = scores(self.daemon.recommend(user_id="demo-musical-1", candidates=part))
            self.assert_close([answer[c["item_id"]] for c in part], [whole[c["item_id"]] for c in part])

    def test_retrieved_items_score_as_candidates_do(self) -> None:
        answer = self.daemon.recommend(user_id="demo-family-1", n=50, explain=True)
        again = self.daemon.recommend(
            user_id="demo-family-1", candidates=[{"item_id": i} for i in ids(answer)], explain=True
        )
        theirs = {item["item_id"]: item for item in again["items"]}
        for key in ["retrieval_score", "sequence_score", "sequence_dot", "value"]:
            self.assert_close(
                [i["explain"][key] for i in answer["items"]],
                [theirs[i["item_id"]]["explain"][key] for i in answer["items"]],
            )
        self.assert_close(
            [i["score"] for i in answer["items"]], [theirs[i["item_id"]]["score"] for i in answer["items"]]
        )

    def test_explain_adds_up(self) -> None:
        model = catalogue().manifest["value"]
        forms = {
            "linear": lambda p, w: sum(w[task] * p[task] for task in p),
            "log": lambda p, w: sum(w[task] * math.log(max(p[task], 1e-9)) for task in p),
            "power": lambda p, w: math.prod(max(p[task], 1e-9) ** w[task] for task in p),
        }
        for asked in [{}, {"watch": 2, "like": 5}, {"watch": -1, "like": 0}]:
            answer = self.daemon.recommend(user_id="demo-drama-3", n=30, explain=True, weights=asked)
            for item in answer["items"]:
                explain = item["explain"]
                value = forms[model["form"]](explain["probabilities"], model["weights"] | asked)
                self.assertAlmostEqual(item["score"], value, delta=1e-6 * max(1, abs(value)))
                self.assertEqual(explain["value"], item["score"])
                self.assertTrue(all(0 <= p <= 1 for p in explain["probabilities"].values()))
                self.assertTrue(explain["sources"])
            self.assertGreaterEqual(answer["explain"]["stages"]["retrieved"], 30)
            self.assertEqual(answer["explain"]["stages"]["returned"], 30)
        sources = Counter(
            s
            for i in self.daemon.recommend(user_id="demo-drama-3", n=500, explain=True)["items"]
            for s in i["explain"]["sources"]
        )
        self.assertGreaterEqual(set(sources), {"tower", "sequence", "item_to_item", "popular"})
        self.assertTrue(
            all(
                i["explain"]["sources"] == ["request"]
                for i in self.daemon.recommend(candidates=self.CHOSEN, explain=True)["items"]
            )
        )
        self.assertNotIn("explain", self.daemon.recommend(user_id="demo-drama-3"))

    def test_retrieval_scores_are_the_products_of_the_vectors(self) -> None:
        # With query_items the query is the mean of stored vectors: the files alone give the scores.
        films = catalogue()
        vectors = films.tensors["item.vector"].astype("float64")
        if "item.vector.scale" in films.tensors:
            vectors *= films.tensors["item.vector.scale"].astype("float64")[:, None]
        chosen = ["film-00010", "film-00020", "film-00777"]
        query = vectors[[films.row[i] for i in chosen]].mean(0)
        answer = self.daemon.recommend(query_items=chosen, candidates=self.CHOSEN, explain=True)
        rows = [films.row[i] for i in ids(answer)]
        self.assert_close(
            [i["explain"]["retrieval_score"] for i in answer["items"]], (vectors[rows] @ query).tolist(), 1e-4
        )

    def test_stored_and_given_history_are_one(self) -> None:
        for user in ["demo-horror-4", "demo-scifi-2"]:
            history = catalogue().history(user)
            stored = scores(self.daemon.recommend(user_id=user, candidates=self.CHOSEN))
            given = scores(self.daemon.recommend(user_id=user, candidates=self.CHOSEN, history=history))
            split = scores(
                self.daemon.recommend(
                    user_id=user, candidates=self.CHOSEN, history=history[:-3], session=history[-3:]
                )
            )
            for other in [given, split]:
                self.assert_close([other[k] for k in stored], list(stored.values()))
            unknown = [*history, {"item_id": "no-such-film"}]
            answer = self.daemon.recommend(user_id=user, candidates=self.CHOSEN, history=unknown)
            self.assertEqual(answer["history"]["unknown"], 1)
            self.assert_close([scores(answer)[k] for k in stored], list(stored.values()))

    def test_the_microbatch_changes_no_score(self) -> None:
        small, large = self.start("--microbatch", "1"), self.start("--microbatch", "64")
        for user in ["demo-crime-2", "demo-comedy-family-1", "demo-new-3"]:
            ones = scores(small.recommend(user_id=user, candidates=self.CHOSEN))
            many = scores(large.recommend(user_id=user, candidates=self.CHOSEN))
            self.assertEqual(set(ones), set(many))
            self.assert_close([ones[k] for k in many], list(many.values()))

    def test_unknown_and_repeated_candidates(self) -> None:
        candidates = [
            {"item_id": i} for i in ["film-00003", "no-such", "film-00003", "film-00004", "nor-this"]
        ]
        answer = self.daemon.recommend(user_id="demo-scifi-1", candidates=candidates)
        self.assertEqual(sorted(ids(answer)), ["film-00003", "film-00004"])
        self.assertEqual(answer["unknown_candidates"], ["no-such", "nor-this"])
        self.assertNotIn("unknown_candidates", self.daemon.recommend(user_id="demo-scifi-1"))
        self.assertEqual(self.daemon.recommend(candidates=[])["items"], [])
        self.assertEqual(
            len(self.daemon.recommend(user_id="demo-scifi-1", candidates=self.CHOSEN, n=7)["items"]), 7
        )

    def test_features_of_the_request_count(self) -> None:
        base = scores(self.daemon.recommend(user_id="demo-scifi-1", candidates=self.CHOSEN))
        for change in [{"user": {"age": 80}}, {"context": {"daypart": "morning"}}]:
            other = scores(self.daemon.recommend(user_id="demo-scifi-1", candidates=self.CHOSEN, **change))
            self.assertNotEqual(base, other)
        own = [c | {"features": {"studio": "Foxhole", "year": 1950}} for c in self.CHOSEN]
        self.assertNotEqual(base, scores(self.daemon.recommend(user_id="demo-scifi-1", candidates=own)))

    def test_diversity_mixes(self) -> None:
        plain = self.daemon.recommend(user_id="demo-western-3", n=20)
        self.assertEqual(
            plain["items"], self.daemon.recommend(user_id="demo-western-3", n=20, diversity=0)["items"]
        )
        mixed = self.daemon.recommend(user_id="demo-western-3", n=20, diversity=0.9)
        self.assertEqual(len(set(ids(mixed))), 20)
        self.assertEqual(ids(plain)[0], ids(mixed)[0])
        self.assertNotEqual(ids(plain), ids(mixed))

    def test_every_score_is_finite_and_times_are_far(self) -> None:
        history = [{"item_id": "film-00001", "timestamp": t} for t in [-1e11, 0, 1e11, 5, 1e-300]]
        answer = self.daemon.recommend(history=history, now=-1e11, n=50, explain=True)
        self.assertEqual(len(answer["items"]), 50)


class Deadlines(harness.Case):
    HEAVY = {
        "history": [
            {"item_id": f"film-{1 + i % 12_000:05}", "timestamp": NOW - 9000 + i} for i in range(4096)
        ],
        "candidates": [{"item_id": f"film-{i:05}"} for i in range(1, 10_001)],
        "n": 10,
        "now": NOW,
    }

    def test_never_is_an_answer_in_full_or_a_504(self) -> None:
        statuses = Counter()
        for milliseconds in [1, 1, 2, 5, 10_000]:
            answer = self.daemon.post(self.HEAVY | {"deadline_ms": milliseconds, "degrade": "never"})
            statuses[answer.status] += 1
            if answer.status == 200:
                self.assertEqual(answer.json["degraded"], [])
            else:
                self.assertEqual((answer.status, answer.kind), (504, "deadline"))
        self.assertEqual(set(statuses), {200, 504}, "10 s suffice, 1 ms does not")

    def test_what_is_left_out_is_named(self) -> None:
        kinds = {"popular": "popularity"}
        seen = set()
        for milliseconds in [1, 1, 1, 2, 3, 5, 8, 12, 20, 40, 10_000]:
            answer = self.daemon.post(self.HEAVY | {"deadline_ms": milliseconds}).json
            seen |= set(answer["degraded"])
            self.assertEqual(len(answer["items"]), 10)
            if not answer["degraded"]:
                self.assertEqual(answer["score_kind"], "value")
            for step in answer["degraded"]:
                if step in kinds:
                    self.assertEqual(answer["score_kind"], kinds[step])
            if "ranker_skipped" in answer["degraded"]:
                self.assertNotEqual(answer["score_kind"], "value")
        self.assertTrue(seen)
        self.assertEqual(answer["degraded"], [], "10 s suffice")

    def test_a_degraded_request_leaves_the_next_one_whole(self) -> None:
        whole = self.daemon.recommend(user_id="demo-scifi-1", n=50, explain=True)["items"]
        for _ in range(3):
            self.daemon.post(self.HEAVY | {"deadline_ms": 1})
            self.assertEqual(
                self.daemon.recommend(user_id="demo-scifi-1", n=50, explain=True)["items"], whole
            )

    def test_server_timing_names_the_stages(self) -> None:
        begun = time.monotonic()
        answer = self.daemon.post({"user_id": "demo-scifi-1", "deadline_ms": 10_000})
        took = 1000 * (time.monotonic() - begun)
        stages = {
            part.split(";")[0].strip(): float(part.split("=")[1])
            for part in answer.headers["server-timing"].split(",")
        }
        self.assertGreaterEqual(
            set(stages), {"queue", "decode", "retrieve", "sequence", "rank", "slate", "encode"}
        )
        self.assertLess(sum(stages.values()), took)
