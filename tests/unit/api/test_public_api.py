"""The public API: names and parameters that programs of users rely on. A change here breaks somebody."""

import importlib
import inspect

import pytest

from exp_pool import ExpManager, ExpPoolConfig, exp_cache

NAMES = {
    "exp_pool": """exp_cache record bypass in_namespace carry get_exp_manager set_exp_manager ExpManager ExpPoolConfig
        Experience Hit Answer Call Score Metric Step ExperienceKind Origin Trust QueryType MISSING Inject Refine Ttl
        ExactJudge PerfectJudge ThresholdJudge VerifiedJudge SimpleContextBuilder race migrate register_type guarded
        all_of any_of""",
    "exp_pool.errors": "ExpPoolError ExpPoolWarning",
    "exp_pool.routing": "ConcurrentRouter ModelEndpoint",
    "exp_pool.retrieval": "AsyncRAGGenerator",
    "exp_pool.snapshots": "save load merge",
    "exp_pool.curation": "to_frame diff apply_frame undo",
    "exp_pool.evaluation": "evaluate",
    "exp_pool.integrations.openai": "cached",
    "exp_pool.testing": "RecordStoreContract VectorIndexContract CodecContract FaultyStore",
    **{
        f"exp_pool.scorers.{module}": name
        for module, name in {
            "composite": "CompositeScorer",
            "exact": "ExactScorer",
            "execution": "ExecutionScorer",
            "feedback": "FeedbackScorer",
            "llm": "LLMScorer",
            "rules": "RulesScorer",
            "similarity": "SimilarityScorer",
        }.items()
    },
}
OPTIONS = """manager name version namespace exclude redact self_key key request judge inject context_builder codec cache_if
    ttl annotation scorer min_score record_failures refine batch single_flight source"""
OF_A_FUNCTION = """key lookup call explain refresh invalidate prefill cache_info cache_clear adopt original"""
OF_A_MANAGER = """create_exp create_exps get_exp update_exp delete_exp delete_exps delete_all_exps query_exps search annotate
    feedback score_exps history clear_expired clear_by_key get_exps_count iter_exps report flush warm_up close"""
PLAIN_OF_A_MANAGER = "exp_cache enabled is_readable is_writable replay background stats sync config"
SETTINGS = {
    "store": "sqlite:///.exp_pool/pool.db",
    "index": "chroma:///.exp_pool/chroma",
    "embedder": "sentence-transformers/all-MiniLM-L6-v2",
    "namespace": "default",
    "enabled": True,
    "enable_read": True,
    "enable_write": True,
    "default_ttl": None,
    "max_entries": None,
    "max_bytes": None,
    "eviction": "lru",
    "require_namespace": False,
    "load_timeout": 30.0,
}


@pytest.mark.parametrize("module", NAMES)
def test_modules_have_their_names(module):
    found = importlib.import_module(module)
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []


def test_the_decorator_has_its_options():
    parameters = inspect.signature(exp_cache).parameters
    assert sorted({*OPTIONS.split()} - {*parameters}) == []
    by_name = [name for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY]
    assert sorted({*OPTIONS.split()} - {*by_name}) == [], "options are given by name"


def test_decorated_functions_and_managers_have_their_methods(make_manager):
    manager = make_manager()
    function = manager.exp_cache(lambda question: question)
    assert [name for name in OF_A_FUNCTION.split() if not hasattr(function, name)] == []
    for name in OF_A_MANAGER.split():
        asked = getattr(ExpManager, name)
        assert inspect.iscoroutinefunction(asked) or inspect.isasyncgenfunction(asked) or name == "iter_exps", name
        assert callable(getattr(manager.sync, name)), name
    assert [name for name in PLAIN_OF_A_MANAGER.split() if not hasattr(manager, name)] == []


@pytest.mark.parametrize("method", ["query_exps", "search"])
def test_queries_take_the_same_arguments(make_manager, method):
    for face in (make_manager(), make_manager().sync):
        parameters = [*inspect.signature(getattr(face, method)).parameters]
        assert {"request", "function", "query_type", "top_k", "min_similarity", "namespace", "where"} <= {*parameters}
        assert parameters[0] == "request"


def test_settings_have_their_defaults(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    defaults = {name: field.default for name, field in ExpPoolConfig.model_fields.items()}
    assert {name: defaults[name] for name in SETTINGS} == SETTINGS
