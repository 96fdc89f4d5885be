"""The KV benchmark's schedules: they follow from the seed alone."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from kv_runs import plan

from moorage.bench.kv import arrivals, config, flags, models, replays, schedule, workload
from moorage.bench.kv.config import Config
from moorage.bench.kv.schedule import READ, READ_OR_WRITE, WRITE
from moorage.bench.kv.workload import Wanted
from moorage.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("name", "nbytes"),
    [
        ("tiny-1b", 24_576), ("mistral-7b", 131_072), ("llama2-7b", 524_288), ("llama3.1-8b", 131_072),
        ("llama3.1-70b-instruct", 327_680), ("deepseek-v3", 70_272), ("qwen3-32b", 262_144), ("gpt-oss-120b", 73_728),
        ("gpt-oss-20b", 49_152),
    ],
)  # fmt: skip
def test_bytes_per_token(name: str, nbytes: int) -> None:
    model = models.MODELS[name]
    assert model.bytes_per_token == nbytes
    size = model.itemsize
    for n in model.shape(7):
        size *= n
    assert size == 7 * nbytes


def test_a_model_of_ones_own_and_a_share_of_it() -> None:
    model = models.custom("layers=4,heads=8,dim=64,dtype=float32")
    assert model.bytes_per_token == 4 * 8 * 64 * 2 * 4
    assert model.share(4).bytes_per_token * 4 == model.bytes_per_token
    assert models.custom("layers=61,latent=576").bytes_per_token == 70_272
    with pytest.raises(InvalidArgumentError, match="tensor-parallel 3"):
        model.share(3)
    for text in (
        "",
        "layers=4",
        "layers=4,heads=8,dim=0",
        "layers=4,heads=8,dim=64,dtype=float99",
        "layers=1,latent=2,dim=3",
    ):
        with pytest.raises(InvalidArgumentError, match="model-shape"):
            models.custom(text)


def _wanted(**more: object) -> Wanted:
    return Wanted(**{"users": 6, "duration": 5.0, "seed": 7, **more})  # type: ignore[arg-type]


def test_one_seed_one_schedule_whatever_the_workers(tmp_path: Path) -> None:
    one = plan(tmp_path, "--seed", "7", "--workers", "1")
    eight = plan(tmp_path, "--seed", "7", "--workers", "8")
    other = plan(tmp_path, "--seed", "8", "--workers", "1")
    nought = plan(tmp_path, "--seed", "0", "--workers", "1")
    digests = [p.schedule.digest() for p in (one, eight, other, nought)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert one.dataset() == eight.dataset() != other.dataset()
    assert nought.options.seed == 0


def test_a_user_more_changes_nobody_else() -> None:
    few, many = (workload.synthetic(_wanted(users=n)) for n in (3, 9))
    assert [r for r in many.requests if r.user < 3] == list(few.requests)


def test_requests_come_in_order_and_in_time() -> None:
    found = workload.synthetic(_wanted()).requests
    assert len(found) > 20
    assert [r.arrival for r in found] == sorted(r.arrival for r in found)
    assert found[-1].arrival < 5 * arrivals.SECOND


def test_a_request_reads_its_own_object_and_earlier_turns() -> None:
    found = workload.synthetic(_wanted(prefixes=False, duration=60.0))
    written: dict[int, set[str]] = {}
    turns = Counter[int]()
    for request in found.requests:
        before = written.setdefault(request.user, set())
        for op in request.ops:
            if op.phase == "history":
                assert op.kind == READ and op.key in before
            elif op.kind == WRITE:
                before.add(op.key)
            else:
                assert op.key == f"u{request.user}r{request.number}"
        reads = sum(op.phase == "decode" for op in request.ops)
        if request.context >= 10_000:
            assert reads == 0
        else:
            assert reads == 1 + -(-request.generate // 32)
        turns[sum(op.phase == "history" for op in request.ops)] += 1
    assert turns[0] and turns[1] and turns[2]


def test_phases_prefixes_and_documents() -> None:
    prefill = workload.synthetic(_wanted(mode="prefill", duration=30.0))
    assert {op.phase for r in prefill.requests for op in r.ops} == {"prefix", "history", "prefill"}
    decode = workload.synthetic(_wanted(mode="decode", rag_documents=3, duration=30.0))
    assert len(decode.before) == 60 and {op.tokens for op in decode.before} == {2048}
    phases = {op.phase for r in decode.requests for op in r.ops}
    assert phases == {"prefix", "rag", "decode"}
    for request in decode.requests:
        assert all(op.kind == READ_OR_WRITE for op in request.ops if op.phase in ("prefix", "rag"))
    without = workload.synthetic(_wanted(multi_turn=False, prefixes=False))
    assert {op.phase for r in without.requests for op in r.ops} == {"prefill", "decode"}


def test_a_prefix_is_a_part_of_the_prompt() -> None:
    found = workload.synthetic(_wanted(duration=30.0, scale=1.0))
    for request in found.requests:
        shared = sum(op.tokens for op in request.ops if op.phase == "prefix")
        own = sum(op.tokens for op in request.ops if op.phase == "prefill")
        assert shared + own == request.context


def test_blocks_are_the_same_tokens_in_pieces() -> None:
    whole, pieces = (workload.synthetic(_wanted(block_tokens=n)) for n in (0, 256))
    for a, b in zip(whole.requests, pieces.requests):
        assert sum(op.tokens for op in a.ops) == sum(op.tokens for op in b.ops)
    assert max(op.tokens for op in pieces.ops()) == 256


def test_scale_and_decode_reads() -> None:
    full, tenth = (workload.synthetic(_wanted(scale=x, decode_reads=2)) for x in (1.0, 0.1))
    for a, b in zip(full.requests, tenth.requests):
        assert a.arrival == b.arrival and len(a.ops) == len(b.ops)
        for one, other in zip(a.ops, b.ops):
            assert abs(other.tokens - one.tokens / 10) <= 1
        assert sum(op.phase == "decode" for op in a.ops) in (0, 3)


@pytest.mark.parametrize("kind", arrivals.OPEN)
def test_rates(kind: str) -> None:
    seed = 20_261_122
    print(f"seed {seed}")
    times = list(islice(arrivals.arrivals(kind, 50.0, 3.0, seed), 4000))
    gaps = [b - a for a, b in zip(times, times[1:])]
    mean = sum(gaps) / len(gaps)
    cv = (sum((g - mean) ** 2 for g in gaps) / len(gaps)) ** 0.5 / mean
    assert mean == pytest.approx(arrivals.SECOND / 50, rel=0.25)
    low, high = {"fixed": (0, 0.001), "poisson": (0.9, 1.1), "gamma": (2.3, 3.7)}[kind]
    assert low <= cv <= high
    assert times == list(islice(arrivals.arrivals(kind, 50.0, 3.0, seed), 4000))


def test_a_rate_changes_no_request() -> None:
    slow, fast = (workload.synthetic(_wanted(arrival="poisson", rate=rate)) for rate in (10.0, 20.0))
    assert len(fast.requests) > len(slow.requests) > 10
    for a, b in zip(slow.requests, fast.requests):
        assert a.ops == b.ops


def test_most_requests() -> None:
    assert len(workload.synthetic(_wanted(max_requests=6)).requests) == 6


def test_service_classes_have_their_shares() -> None:
    found = Counter(workload.User(_wanted(users=2000), i).request(0).qos for i in range(2000))
    assert found["interactive"] == pytest.approx(300, rel=0.2)
    assert found["responsive"] == pytest.approx(700, rel=0.2)
    assert found["batch"] == pytest.approx(1000, rel=0.2)


# ---- files ----


def test_a_schedule_is_saved_and_read_again(tmp_path: Path) -> None:
    found = workload.synthetic(_wanted(mode="decode", rag_documents=2))
    path = tmp_path / "s.jsonl"
    schedule.save(found, str(path))
    again = schedule.load(str(path))
    assert again.digest() == found.digest()
    assert list(again.requests) == list(found.requests) and list(again.before) == list(found.before)
    lines = path.read_text().splitlines()
    for wrong in (lines[:-1], [lines[0], *reversed(lines[1:])], ["[]"], ["nothing"], [lines[0], '["before", 1]']):
        path.write_text("\n".join(wrong) + "\n")
        with pytest.raises(InvalidArgumentError, match=r"s\.jsonl"):
            schedule.load(str(path))


def test_burst(tmp_path: Path) -> None:
    path = tmp_path / "burst.csv"
    path.write_text(
        "Timestamp,Session ID,Request tokens,Response tokens,Total tokens\n"
        "10,a,100,64,164\n11,b,0,5,5\n12,c,200,10,210\n"
    )
    once = replays.burst(_wanted(), str(path), 1.0, 1)
    assert [(r.arrival, r.context) for r in once.requests] == [(0, 100), (2 * arrivals.SECOND, 200)]
    assert [op.kind for op in once.requests[0].ops] == [WRITE, READ, READ, READ]
    faster = replays.burst(_wanted(), str(path), 4.0, 0)
    assert faster.requests[1].arrival == arrivals.SECOND // 2
    assert len(faster.requests) > 10
    assert len({op.key for op in faster.ops()}) == len(faster.requests)
    assert len(replays.burst(_wanted(max_requests=5), str(path), 0.0, 0).requests) == 5
    assert replays.burst(_wanted(), str(tmp_path), 1.0, 1).digest() == once.digest()
    path.write_text("Timestamp,Request tokens\n1,2\n")
    with pytest.raises(InvalidArgumentError, match="line 2"):
        replays.burst(_wanted(), str(path), 1.0, 1)
    with pytest.raises(InvalidArgumentError, match="no such file"):
        replays.burst(_wanted(), str(tmp_path / "*.tsv"), 1.0, 1)


def test_hashes(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    rows = [
        {"timestamp": 0, "input_length": 1100, "output_length": 7, "hash_ids": [1, 2, 3]},
        {"timestamp": 1500, "input_length": 1024, "output_length": 7, "hash_ids": [1, 2]},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    found = replays.hashed(_wanted(), str(path), 1.0, 1)
    assert [[(op.key, op.tokens) for op in r.ops] for r in found.requests] == [
        [("hash1", 512), ("hash2", 512), ("hash3", 76)], [("hash1", 512), ("hash2", 512)],
    ]  # fmt: skip
    assert {op.kind for op in found.ops()} == {READ_OR_WRITE}
    assert found.requests[1].arrival == 1.5 * arrivals.SECOND
    path.write_text('{"timestamp": 1}\n')
    with pytest.raises(InvalidArgumentError, match="line 1"):
        replays.hashed(_wanted(), str(path), 1.0, 1)


def test_sharegpt(tmp_path: Path) -> None:
    path = tmp_path / "gpt.json"
    talk = [{"from": who, "value": "x" * n} for who, n in (("human", 40), ("gpt", 400), ("human", 80), ("gpt", 4))]
    path.write_text(json.dumps([{"conversations": talk}, {"conversations": talk[:2]}]))
    found = replays.sharegpt(_wanted(), str(path), 500, 1)
    assert [(r.user, r.number, r.context, r.generate) for r in found.requests] == [
        (0, 0, 10, 100), (1, 0, 10, 100), (0, 1, 20, 1),
    ]  # fmt: skip
    assert [op.phase for op in found.requests[2].ops] == ["history", "prefill", "decode", "decode"]
    assert found.requests[2].ops[0].key == found.requests[0].ops[0].key
    assert len(replays.sharegpt(_wanted(), str(path), 1, 1).requests) == 2
    rated = replays.sharegpt(_wanted(arrival="fixed", rate=2.0), str(path), 500, 0)
    assert len(rated.requests) == 10
    for wrong in ("{}", "[]", "nonsense", '[{"conversations": 3}]'):
        path.write_text(wrong)
        with pytest.raises(InvalidArgumentError, match="dataset-path"):
            replays.sharegpt(_wanted(), str(path), 500, 1)


# ---- configuration ----


def test_a_configuration_changes_what_it_says() -> None:
    found = config.changed(
        {
            "decode": {"tokens_per_read": 8},
            "user_templates": {"chatbot": {"context": [1, 2], "generate": [3, 4], "think": [0.1, 0.2]}},
            "model_configs": {"mine": {"layers": 2, "kv_heads": 2, "head_dim": 4}},
        }
    )
    assert found.decode.tokens_per_read == 8
    assert found.decode.prefill_only_from_tokens == Config().decode.prefill_only_from_tokens
    assert found.user_templates["chatbot"].context == (1, 2)
    assert set(found.user_templates) == {"chatbot", "coding", "document"}
    assert found.model_configs["mine"].bytes_per_token == 64


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"decoding": {}}, "did you mean decode"),
        ({"decode": {"token_per_read": 1}}, "did you mean tokens_per_read"),
        ({"decode": {"tokens_per_read": "many"}}, "decode.tokens_per_read"),
        ({"decode": {"tokens_per_read": 0}}, "at least 1"),
        ({"decode": 3}, "decode must be a mapping"),
        ({"rag": {"probability": 2}}, "from 0 to 1"),
        ({"qos_profiles": {"batch": {"share": 1, "priority": 1, "targets": [1, 2, 3, 4]}}}, "add up to 1"),
        ({"user_templates": {"chatbot": {"context": [2, 1], "generate": [1, 2], "think": [1, 2]}}}, "chatbot.context"),
        ({"user_templates": {"chatbot": {"context": [1, 2]}}}, "user_templates.chatbot"),
        ({"autoscaler": {}}, "no concurrency"),
        ({"gpu_backend": {}}, "simulated"),
        ([], "a mapping of sections"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(content: object, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        config.changed(content)


def test_every_key_of_a_configuration_has_an_effect() -> None:
    """Each is read somewhere but in config.py."""
    import dataclasses

    source = "".join(
        path.read_text()
        for path in Path(workload.__file__).parent.rglob("*.py")
        if path.name not in ("config.py", "flags.py")
    )
    for section in dataclasses.fields(Config):
        value = getattr(Config(), section.name)
        one = next(iter(value.values())) if isinstance(value, dict) else value
        assert f".{section.name}" in source, section.name
        for field in dataclasses.fields(one):
            used = f".{field.name}" in source or (section.name == "generation_timing" and "generation_mode" in source)
            assert used, f"{section.name}.{field.name}"


# ---- flags ----

_ORIGINAL = """log-level model num-users duration gpu-mem-gb num-gpus tensor-parallel cpu-mem-gb cache-dir
generation-mode performance-profile disable-multi-turn disable-prefix-caching enable-rag
rag-num-docs enable-autoscaling autoscaler-mode target-saturation use-burst-trace burst-trace-path
trace-speedup replay-cycles validation-trace dataset-path max-conversations request-rate
max-requests max-concurrent-allocs storage-capacity-gb precondition precondition-size-gb
precondition-threads prefill-only decode-only seed config output xlsx-output io-trace-log
enable-latency-tracing"""


def test_every_flag_of_the_original_is_known() -> None:
    assert len(_ORIGINAL.split()) == 40
    known = {word for action in flags.parser()._actions for word in action.option_strings}
    assert {f"--{name}" for name in _ORIGINAL.split()} <= known


def test_every_flag_is_used_or_refused() -> None:
    source = "".join(path.read_text() for path in Path(workload.__file__).parent.rglob("*.py"))
    for action in flags.parser()._actions:
        name = action.dest
        if name != "help":
            assert f"options.{name}" in source or f'"{name}"' in source, name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--enable-autoscaling"], "concurrency"),
        (["--autoscaler-mode", "qos"], "concurrency"),
        (["--target-saturation", "0.5"], "concurrency"),
        (["--enable-latency-tracing"], "counters"),
        (["--arrival", "poisson"], "--request-rate"),
        (["--arrival", "closed", "--request-rate", "3"], "no effect"),
        (["--tensor-parallel", "2"], "--num-gpus"),
        (["--use-burst-trace", "--hash-trace", "x"], "only one"),
        (["--xlsx-output", "a.xlsx"], "end in .csv"),
        (["--compare-gib", "1"], "--compare-gib needs --compare"),
        (["--bundle", "x.tgz"], "--bundle needs --output"),
        (["--precondition-threads", "2"], "needs --precondition"),
        (["--arrival-cv", "2", "--arrival", "poisson", "--request-rate", "1"], "--arrival gamma"),
        (["--compare", "--slo-read-p95", "3"], "--compare goes not with --slo-read-p95"),
        (["--compare", "--backend", "direct", "--csv", "x.csv"], "--csv, --backend"),
        (["--ranks", "2", "--plot", "x.png"], "--ranks goes not with --plot"),
        (["--io-trace-log", "x.csv", "--output", "x.json"], "--io-trace-log goes not with --output"),
    ],
)
def test_what_has_no_sense_is_refused_with_its_reason(words: list[str], said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        flags.parse(words)


@pytest.mark.parametrize("words", [["--num-users", "0"], ["--scale", "2"], ["--duration", "x"], ["--no-such-flag"]])
def test_numbers_out_of_range(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        flags.parse(words)
    assert left.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_presets() -> None:
    one, two, three = (flags.parse(["--preset", f"mlperf-{n}"]) for n in (1, 2, 3))
    shapes = [(o.num_users, o.duration, o.gpu_mem_gb, o.cpu_mem_gb, o.max_concurrent_allocs) for o in (one, two, three)]
    assert shapes == [
        (200, 300, 0, 0, 16), (100, 300, 0, 4, 16), (70, 300, 0, 0, 4),
    ]  # fmt: skip
    assert {o.trials for o in (one, two, three)} == {3} and {o.seed for o in (one, two, three)} == {42}
    assert three.model == "llama3.1-70b-instruct"
    assert flags.parse(["--preset", "mlperf-1", "--duration", "5"]).duration == 5
    plain = flags.parse(["--model", "llama3.1-8b"])
    assert (plain.num_users, plain.duration, plain.gpu_mem_gb, plain.cpu_mem_gb) == (100, 60, 16, 32)
    assert plain.generation_mode == "realistic" and plain.trials == 1
    assert flags.parse(["--compare"]).trials == flags.parse(["--preset", "quick"]).trials == 3
    assert flags.parse([]).trials == flags.parse(["--preset", "quick", "--trials", "1"]).trials == 1
    assert not plain.decode_only
    assert flags.parse([]).preset == "quick" and flags.parse([]).decode_only
    assert not flags.parse(["--preset", "quick", "--prefill-only"]).decode_only
