"""Makes the files of this folder by running the real packages; `tests/data/sources/README.md` says which are these.

In an environment of its own, because the packages are many and none is needed to run the tests:

    pip install langchain-community gptcache mlflow-skinny langsmith langfuse openai opentelemetry-sdk \
        opentelemetry-exporter-otlp-proto-common opentelemetry-instrumentation-openai-v2 openinference-instrumentation-openai
    python tests/data/sources/make.py tests/data/sources [NAME ...]
"""

import base64
import http.server
import json
import os
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

ANSWERS = {"Where is the key?": "Under the mat.", "What is 2 + 2?": "4"}
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1767225600,
    "model": "gpt-4o-mini-2024-07-18",
    "usage": {"prompt_tokens": 12, "completion_tokens": 4, "total_tokens": 16},
}


class Chat(http.server.BaseHTTPRequestHandler):
    """Answers as OpenAI's chat completions do."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = ANSWERS[asked["messages"][-1]["content"]]
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        body = json.dumps({**COMPLETION, "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def ask_openai():
    """Two real calls of the real client."""
    import openai

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none")
    system = {"role": "system", "content": "Answer in few words."}
    told = []
    for question in ANSWERS:
        asked = {
            "model": "gpt-4o-mini",
            "temperature": 0.2,
            "messages": [system, {"role": "user", "content": question}],
        }
        told.append((asked, client.chat.completions.create(**asked)))
    server.shutdown()
    return told


def openai(folder):
    """What people log: the request as it was sent, the response as the SDK writes it."""
    lines = [{"request": asked, "response": json.loads(got.model_dump_json())} for asked, got in ask_openai()]
    write_lines(folder / "openai.jsonl", lines)


def spans_of(work):
    """The spans of some work, in the form in which collectors write them to files."""
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "helpdesk"}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    with provider.get_tracer("app").start_as_current_span("answer_question"):
        work(provider)
    export = MessageToDict(encode_spans(kept.get_finished_spans()))
    for resource in export["resourceSpans"]:  # OTLP writes ids in hex where protobuf's JSON has base64
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name in {"traceId", "spanId", "parentSpanId"} & span.keys():
                    span[name] = base64.b64decode(span[name]).hex()
    return export


def otel(folder):
    """By OpenTelemetry's own library for these spans: its instrumentation of openai puts no content into them."""
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_ONLY"
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
    from opentelemetry.util.genai.handler import TelemetryHandler
    from opentelemetry.util.genai.types import InputMessage, OutputMessage, TextPart

    def work(provider):
        handler = TelemetryHandler(tracer_provider=provider)
        for question, answer in ANSWERS.items():
            with handler.inference("openai", request_model="gpt-4o-mini") as call:
                call.temperature = 0.2
                call.system_instruction = [TextPart("Answer in few words.")]
                call.input_messages = [InputMessage("user", [TextPart(question)])]
                call.output_messages = [OutputMessage("assistant", [TextPart(answer)], "stop")]
                call.input_tokens, call.output_tokens = 12, 4
                call.response_model_name = "gpt-4o-mini-2024-07-18"

    write_lines(folder / "otel.jsonl", [spans_of(work)])


def openinference(folder):
    from openinference.instrumentation.openai import OpenAIInstrumentor

    def work(provider):
        tracer = OpenAIInstrumentor()
        tracer.instrument(tracer_provider=provider)
        ask_openai()
        tracer.uninstrument()

    (folder / "openinference.json").write_text(json.dumps(spans_of(work), indent=1))


def langchain(folder):
    from langchain_community.cache import SQLiteCache
    from langchain_core.globals import set_llm_cache
    from langchain_core.language_models.fake import FakeListLLM
    from langchain_core.language_models.fake_chat_models import FakeListChatModel
    from langchain_core.messages import HumanMessage, SystemMessage

    path = folder / "langchain.db"
    path.unlink(missing_ok=True)
    set_llm_cache(SQLiteCache(database_path=str(path)))
    for question, answer in ANSWERS.items():
        FakeListLLM(responses=[answer]).invoke(question)
        messages = [SystemMessage("Answer in few words."), HumanMessage(question)]
        FakeListChatModel(responses=[answer]).invoke(messages)


def gptcache(folder):
    import numpy as np
    from gptcache.manager.scalar_data.base import Answer, CacheData, DataType, Question
    from gptcache.manager.scalar_data.sql_storage import SQLStorage

    path = folder / "gptcache.db"
    path.unlink(missing_ok=True)
    storage = SQLStorage(db_type="sqlite", url=f"sqlite:///{path}")
    vector = np.zeros(4, dtype=np.float32)
    rows = [CacheData(Question(q), [Answer(a, DataType.STR)], embedding_data=vector) for q, a in ANSWERS.items()]
    ids = storage.batch_insert([*rows, CacheData("forgotten", "gone", embedding_data=vector)])
    storage.mark_deleted(ids[-1:])
    storage.close()


def mlflow(folder):
    import mlflow

    database = folder / "mlflow.tmp.db"
    database.unlink(missing_ok=True)
    mlflow.set_tracking_uri(f"sqlite:///{database}")

    @mlflow.trace(span_type="LLM")
    def chat(messages, model):
        return {"choices": [{"message": {"role": "assistant", "content": ANSWERS[messages[-1]["content"]]}}]}

    @mlflow.trace
    def helpdesk(question):
        return chat([{"role": "user", "content": question}], model="gpt-4o-mini")["choices"][0]["message"]["content"]

    for question in ANSWERS:
        helpdesk(question)
    mlflow.flush_trace_async_logging()
    experiment = mlflow.get_experiment_by_name("Default")
    traces = [
        json.loads(trace.to_json()) for trace in mlflow.search_traces([experiment.experiment_id], return_type="list")
    ]
    for trace in traces:  # what they say of the machine
        for told in (trace["info"]["trace_metadata"], trace["info"]["tags"]):
            for name in [
                name for name in told if "source" in name or name in ("mlflow.user", "mlflow.artifactLocation")
            ]:
                del told[name]
    write_lines(folder / "mlflow.jsonl", traces)
    database.unlink()


def agentheaven(folder):
    """In an environment of its own: ``pip install agent-heaven``."""
    import asyncio

    from ahvn.cache import JsonCache

    cache = JsonCache(str(folder / "agentheaven"))

    @cache.memoize()
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    @cache.memoize()
    async def ask(question: str, model: str = "small"):
        return ANSWERS[question]

    fibonacci(3)
    for question in ANSWERS:
        asyncio.run(ask(question=question))


def langsmith(folder):
    from langsmith import schemas

    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    runs = []
    for number, (question, answer) in enumerate(ANSWERS.items()):
        ids = {
            "id": f"00000000-0000-0000-0000-00000000000{number}",
            "trace_id": f"00000000-0000-0000-0000-00000000000{number}",
        }
        run = schemas.Run(
            **ids,
            name="ChatOpenAI",
            run_type="llm",
            inputs={"messages": [{"role": "user", "content": question}]},
            outputs={"choices": [{"message": {"role": "assistant", "content": answer}}]},
            start_time=at,
            end_time=at + timedelta(seconds=1.5),
            extra={"metadata": {"ls_model_name": "gpt-4o-mini"}},
            dotted_order=f"20260102T030405000000Z{ids['id']}",
            prompt_tokens=12,
            completion_tokens=4,
            total_tokens=16,
            feedback_stats={"correctness": {"n": 1, "avg": 0.5}},
        )
        runs.append(json.loads(run.json() if hasattr(run, "json") else run.model_dump_json()))
    write_lines(folder / "langsmith.jsonl", runs)


def write_lines(path, values):
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8")


MAKERS = (agentheaven, openai, otel, openinference, langchain, gptcache, mlflow, langsmith)

if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    for maker in MAKERS:
        if not sys.argv[2:] or maker.__name__ in sys.argv[2:]:
            maker(target)
