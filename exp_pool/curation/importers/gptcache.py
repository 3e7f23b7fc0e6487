"""GPTCache's scalar store in SQLite: questions and their answers; the vectors beside it are made anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from exp_pool.curation.importers import sqlite
from exp_pool.curation.importers.safe_files import ImportSource, Items
from exp_pool.curation.importers.types import Imported, ImportOptions, LeftOutError, Peek, imported_call, parse_time

NEEDS_FUNCTION = True
_QUESTIONS, _ANSWERS = "gptcache_question", "gptcache_answer"
_TEXT = 0  # GPTCache's DataType.STR


def recognise(peek: Peek) -> bool:
    """SQLite with its tables."""
    return peek.head.startswith(sqlite.MAGIC) and _QUESTIONS.encode() in peek.head


def items(source: ImportSource, options: ImportOptions) -> Items:  # noqa: ARG001
    """One for each answer, with its question. Both tables are read side by side, by the question's number."""
    for file in source.files(".db", ".sqlite"):
        questions = sqlite.rows(source, file, _QUESTIONS, ("id", "question", "create_on", "deleted"), "id")
        question: dict[str, Any] | None = next(questions, None)
        columns = ("id", "question_id", "answer", "answer_type")
        for answer in sqlite.rows(source, file, _ANSWERS, columns, "question_id, id"):
            while question is not None and question["id"] < answer["question_id"]:
                question = next(questions, None)
            same = question is not None and question["id"] == answer["question_id"]
            yield f"{source.name(file)} answer {answer['id']}", (question if same else None, answer)


def experiences(item: Any, options: ImportOptions) -> Iterable[Imported]:
    """What was not deleted, and is text."""
    question, answer = item
    if question is None:
        raise LeftOutError("its question is not there")
    if question["deleted"]:
        raise LeftOutError("GPTCache has marked it as deleted")
    if answer["answer_type"] != _TEXT:
        raise LeftOutError("its answer is no text")
    yield imported_call(
        options,
        "gptcache",
        None,
        None,
        answer["answer"],
        request=question["question"],
        source_id=question["id"],
        created_at=parse_time(question["create_on"]),
    )
