"""Serializer of response objects of the OpenAI and Anthropic SDKs. Pure.

Only the classes listed here, by the SDKs' own models, read the way the SDKs read an answer from the wire
(`construct`: nothing is validated, unset stays unset, fields that are new to the SDK are kept). Neither SDK is imported
before a value or a stored text needs it, and no module but those listed is ever imported.
"""

from __future__ import annotations

import importlib
from typing import Any

from exp_pool.errors import DecodingError, EncodingError

_MODELS = {
    "openai.types": (
        "Completion CompletionChoice CompletionUsage CreateEmbeddingResponse Embedding Image ImagesResponse "
        "ImageEditCompletedEvent ImageEditPartialImageEvent ImageGenCompletedEvent ImageGenPartialImageEvent "
        "Model Moderation ModerationCreateResponse VectorStoreSearchResponse"
    ),
    "openai.types.audio": (
        "Transcription TranscriptionDiarized TranscriptionVerbose Translation TranslationVerbose "
        "TranscriptionTextDeltaEvent TranscriptionTextDoneEvent TranscriptionTextSegmentEvent"
    ),
    "openai.types.chat": (
        "ChatCompletion ChatCompletionAudio ChatCompletionChunk ChatCompletionMessage "
        "ChatCompletionMessageCustomToolCall ChatCompletionMessageFunctionToolCall ChatCompletionMessageToolCall "
        "ChatCompletionTokenLogprob"
    ),
    "openai.types.chat.chat_completion": "Choice ChoiceLogprobs",
    "openai.types.chat.chat_completion_chunk": "Choice ChoiceDelta ChoiceDeltaToolCall ChoiceLogprobs",
    "openai.types.responses": (
        "CompactedResponse InputTokenCountResponse Response ResponseError ResponseUsage "
        "ResponseCodeInterpreterToolCall ResponseComputerToolCall ResponseCustomToolCall ResponseFileSearchToolCall "
        "ResponseFunctionToolCall ResponseFunctionWebSearch ResponseOutputMessage ResponseOutputRefusal "
        "ResponseOutputText ResponseReasoningItem "
        "ResponseAudioDeltaEvent ResponseAudioDoneEvent ResponseAudioTranscriptDeltaEvent "
        "ResponseAudioTranscriptDoneEvent ResponseCodeInterpreterCallCodeDeltaEvent "
        "ResponseCodeInterpreterCallCodeDoneEvent ResponseCodeInterpreterCallCompletedEvent "
        "ResponseCodeInterpreterCallInProgressEvent ResponseCodeInterpreterCallInterpretingEvent "
        "ResponseCompletedEvent ResponseContentPartAddedEvent ResponseContentPartDoneEvent ResponseCreatedEvent "
        "ResponseCustomToolCallInputDeltaEvent ResponseCustomToolCallInputDoneEvent ResponseErrorEvent "
        "ResponseFailedEvent ResponseFileSearchCallCompletedEvent ResponseFileSearchCallInProgressEvent "
        "ResponseFileSearchCallSearchingEvent ResponseFunctionCallArgumentsDeltaEvent "
        "ResponseFunctionCallArgumentsDoneEvent ResponseImageGenCallCompletedEvent "
        "ResponseImageGenCallGeneratingEvent ResponseImageGenCallInProgressEvent "
        "ResponseImageGenCallPartialImageEvent ResponseInProgressEvent ResponseIncompleteEvent "
        "ResponseMcpCallArgumentsDeltaEvent ResponseMcpCallArgumentsDoneEvent ResponseMcpCallCompletedEvent "
        "ResponseMcpCallFailedEvent ResponseMcpCallInProgressEvent ResponseMcpListToolsCompletedEvent "
        "ResponseMcpListToolsFailedEvent ResponseMcpListToolsInProgressEvent ResponseOutputItemAddedEvent "
        "ResponseOutputItemDoneEvent ResponseOutputTextAnnotationAddedEvent ResponseQueuedEvent "
        "ResponseReasoningSummaryPartAddedEvent ResponseReasoningSummaryPartDoneEvent "
        "ResponseReasoningSummaryTextDeltaEvent ResponseReasoningSummaryTextDoneEvent "
        "ResponseReasoningTextDeltaEvent ResponseReasoningTextDoneEvent ResponseRefusalDeltaEvent "
        "ResponseRefusalDoneEvent ResponseTextDeltaEvent ResponseTextDoneEvent "
        "ResponseWebSearchCallCompletedEvent ResponseWebSearchCallInProgressEvent ResponseWebSearchCallSearchingEvent"
    ),
    "anthropic.types": (
        "Completion Message MessageDeltaUsage MessageTokensCount ModelInfo Usage "
        "RawContentBlockDeltaEvent RawContentBlockStartEvent RawContentBlockStopEvent RawMessageDeltaEvent "
        "RawMessageStartEvent RawMessageStopEvent "
        "RedactedThinkingBlock ServerToolUseBlock TextBlock ThinkingBlock ToolUseBlock WebSearchToolResultBlock "
        "CitationsDelta InputJSONDelta SignatureDelta TextDelta ThinkingDelta"
    ),
    "anthropic.types.beta": (
        "BetaMessage BetaMessageDeltaUsage BetaMessageTokensCount BetaUsage "
        "BetaRawContentBlockDeltaEvent BetaRawContentBlockStartEvent BetaRawContentBlockStopEvent "
        "BetaRawMessageDeltaEvent BetaRawMessageStartEvent BetaRawMessageStopEvent "
        "BetaRedactedThinkingBlock BetaServerToolUseBlock BetaTextBlock BetaThinkingBlock BetaToolUseBlock"
    ),
}
MODELS = {module: tuple(names.split()) for module, names in _MODELS.items()}
"""The classes that are known, by the module that offers them."""

# What the SDKs set on an answer besides its fields; `_request_id` is documented for users.
_ATTRIBUTES = ("_request_id", "_workspace_id")


def write(value: Any) -> tuple[str, list[Any]]:
    """The tag's name and content: the class, the fields that are set as on the wire, and what else the SDK set.

    Raises:
        EncodingError: the class is none of `MODELS`.
    """
    kind = type(value)
    name = _name(kind)
    if name is None:
        raise EncodingError(
            f"a value of type {kind.__module__}.{kind.__qualname__} could not be restored from JSON: of the SDKs' "
            "classes only the common responses are known; return one of those, value.to_dict(), or teach the class by "
            "exp_pool.register_type"
        )
    try:
        fields = value.model_dump(mode="python", by_alias=True, exclude_unset=True, warnings=False)
    except Exception as err:  # the SDK's own code, on a value that it was not made for
        raise EncodingError(f"{name} cannot be written: {err}") from err
    return "sdk", [name, fields, {name: vars(value)[name] for name in _ATTRIBUTES if name in vars(value)}]


def read(content: Any) -> Any:
    """The response object.

    Raises:
        DecodingError: a class that is none of `MODELS`, an SDK that is not installed, or content that does not fit.
    """
    name, fields, attributes = content
    module, _, class_name = str(name).rpartition(".")
    if class_name not in MODELS.get(module, ()):
        raise DecodingError(f"{name!r} is none of the SDK classes that this version knows")
    package = module.partition(".")[0]
    try:
        kind = getattr(importlib.import_module(module), class_name)
    except (ImportError, AttributeError) as err:
        raise DecodingError(f"{name} needs a version of {package} that has it: pip install -U {package}") from err
    if "_fields_set" in fields or not set(attributes) <= set(_ATTRIBUTES):  # `construct` has a parameter of that name
        raise DecodingError(f"{name} has attributes that this package does not write")
    try:
        value = kind.construct(**fields)
        vars(value).update(attributes)
    except Exception as err:  # the SDK's own code, on content that may be anything
        raise DecodingError(f"{name} cannot be read: {err}") from err
    return value


def _name(kind: type) -> str | None:
    package = kind.__module__.partition(".")[0]
    for module, names in MODELS.items():
        if kind.__name__ not in names or module.partition(".")[0] != package:
            continue
        if getattr(importlib.import_module(module), kind.__name__, None) is kind:  # loaded: here is one of its values
            return f"{module}.{kind.__name__}"
    return None
