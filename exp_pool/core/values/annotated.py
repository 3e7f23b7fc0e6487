"""Codec by return annotation: models, dataclasses, enums and the like as their JSON form. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from exp_pool.core.values.codec_stamp import ANNOTATED
from exp_pool.core.values.deep_equal import difference, iterator_in, type_name
from exp_pool.core.values.encoding import json_dumps
from exp_pool.core.values.unset_fields import Tree, take_away, unset_in
from exp_pool.errors import DecodingError, EncodingError, MisfitError

REMEDY = "annotate what the function returns more exactly, teach the type by exp_pool.register_type, or give codec="

_UNSET = "$exp:unset"  # {"$exp:unset": [form, tree]}: see `unset_fields`


class AnnotatedCodec:
    """Models and dataclasses, by the return annotation (pydantic's TypeAdapter): their JSON form is what is stored.

    Beside it, where that is not all of them, which fields of models are set.
    """

    name = ANNOTATED

    def __init__(self, annotation: Any) -> None:
        from pydantic import TypeAdapter

        self._adapter = TypeAdapter[Any](annotation)

    def encode(self, value: Any) -> str:
        """The text, once it is shown to come back the same.

        Raises:
            EncodingError: it would not.
        """
        where = iterator_in(value)
        if where is not None:  # looking would use it up, and it is the caller's
            raise EncodingError(f"{type_name(value)} holds what can be read only once{where and f' (at {where})'}")
        try:
            return self._checked(value, whole=False)
        except EncodingError:
            try:  # without what a model computes, which its own validation may refuse
                return self._checked(value, whole=True)
            except EncodingError:
                pass
            raise

    def decode(self, text: str) -> Any:
        """The value, validated."""
        return self._restored(*_taken_apart(text))

    def verified(self, text: str) -> Any:
        """The value, once today's type is shown to write it as it stands there: nothing is filled up or left out.

        Raises:
            MisfitError: it does not.
        """
        form, tree = _taken_apart(text)
        try:
            value = self._restored(form, tree)
        except DecodingError as err:
            raise MisfitError(str(err)) from err
        for whole in (False, True):
            try:
                if _same_form(form, json.loads(self._write(value, whole=whole))):
                    return value
            except EncodingError:
                continue
        raise MisfitError("the return type as it is now writes it differently")

    def validated(self, form: Any) -> Any:
        """The value of what people wrote as its JSON form; what they left out is filled up.

        Raises:
            MisfitError: it does not fit, or a name in it would be dropped.
        """
        try:
            value = self._restored(form, None)
        except DecodingError as err:
            raise MisfitError(str(err)) from err
        name = unknown_name(form, value)
        if name is not None:
            raise MisfitError(f"the return type as it is now has no place for {name!r}")
        return value

    def given(self, text: str) -> Any:
        """The value of a text that people wrote, or copied; see `validated`."""
        form, tree = _taken_apart(text)
        return self.validated(form) if tree is None else self._restored(form, tree)

    def _restored(self, form: Any, tree: Tree | None) -> Any:
        try:
            value = self._adapter.validate_python(form, strict=False)
        except Exception as err:  # validators are the user's code
            raise DecodingError(f"stored text does not fit the return annotation: {_in_words(err)}") from err
        if tree is not None:
            take_away(value, tree)
        return value

    def _checked(self, value: Any, *, whole: bool) -> str:
        form = self._write(value, whole=whole)
        tree = unset_in(value)
        marked = tree is not None or form.startswith(f'{{"{_UNSET}":')
        text = f'{{"{_UNSET}":[{form},{json_dumps(tree)}]}}' if marked else form
        try:
            back = self.decode(text)
        except DecodingError as err:
            raise EncodingError(f"{type_name(value)} cannot be restored by the return annotation: {err}") from err
        what = difference(value, back)
        if what is None and not same_text(form, self._write(back, whole=whole)):
            what = "it is written differently the second time"
        if what is None and unset_in(back) != tree:
            what = "which fields were set is lost"
        if what is not None:
            raise EncodingError(f"{type_name(value)} comes back different by the return annotation: {what}; {REMEDY}")
        return text

    def _write(self, value: Any, *, whole: bool) -> str:
        try:
            return json_dumps(
                self._adapter.dump_python(value, mode="json", by_alias=True, warnings="error", round_trip=whole)
            )
        except Exception as err:  # serializers are the user's code
            raise EncodingError(f"{type_name(value)} cannot be written by the return annotation: {err}") from err


def _in_words(err: Exception) -> str:
    """What validation found first, and where; not the answer itself, which such errors show."""
    try:
        found = err.errors(include_url=False, include_context=False, include_input=False)  # type: ignore[attr-defined]
        where = ".".join(map(str, found[0]["loc"]))
        return f"{where}: {found[0]['msg']}" if where else str(found[0]["msg"])
    except Exception:  # of the user's own code: any exception
        return f"{type(err).__name__}: {err}"


def form_of(text: str) -> Any:
    """The JSON form in a text that this codec wrote, or in a list of such texts, as people see it."""
    form, _ = _apart(json.loads(text))
    return [_apart(item)[0] for item in form] if isinstance(form, list) else form


def _taken_apart(text: str) -> tuple[Any, Tree | None]:
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise DecodingError(f"stored text cannot be read: {err}") from err
    return _apart(stored)


def _apart(stored: Any) -> tuple[Any, Tree | None]:
    if isinstance(stored, dict) and len(stored) == 1 and _UNSET in stored:
        try:
            form, tree = stored[_UNSET]
        except (TypeError, ValueError) as err:
            raise DecodingError(f"stored text cannot be read: {err}") from err
        return form, tree
    return stored, None


def same_text(one: str, other: str) -> bool:
    """Whether two JSON texts say the same.

    The order of names in an object does not count, nor that of items in a list: equal sets of a model are written in
    any order. That of a list which is one was compared with the value itself.
    """
    return one == other or _same_form(json.loads(one), json.loads(other))


def _same_form(one: Any, other: Any) -> bool:
    return _in_order(one) == _in_order(other)


def _in_order(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{json.dumps(name)}:{_in_order(value[name])}" for name in value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(sorted(map(_in_order, value))) + "]"
    return json.dumps(value)


# ── What people wrote ─────────────────────────────────────────────────────────────────────────────────────────────────


def unknown_name(form: Any, value: Any) -> str | None:
    """The first name in a JSON form that the value made of it has no place for; None where all of it was read.

    Where a model's own code sees the form first, it may mean anything.
    """
    kind = type(value)
    if hasattr(kind, "__pydantic_fields_set__") and kind.__pydantic_root_model__:
        return unknown_name(form, value.root)
    if isinstance(form, dict):
        if isinstance(value, Mapping):
            if len(value) < len(form):
                return next((name for name in form if name not in value), None)
            return _first(form.values(), value.values())
        fields = _names(kind)
        if fields is None:
            return None
        for name, part in form.items():
            if name not in fields:
                return str(name)
            found = unknown_name(part, getattr(value, fields[name], None))
            if found is not None:
                return found
        return None
    return _first(form, value) if isinstance(form, list) and isinstance(value, list | tuple) else None


def _first(forms: Any, values: Any) -> str | None:
    found = (unknown_name(form, value) for form, value in zip(forms, values, strict=False))
    return next((name for name in found if name is not None), None)


def _names(kind: Any) -> dict[str, str] | None:
    """The field that each name in a JSON form is read into; None where that cannot be told."""
    fields: Mapping[str, Any] | None = getattr(kind, "__pydantic_fields__", None)
    if fields is None:
        return (
            {field.name: field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else None
        )
    decorators = kind.__pydantic_decorators__
    first = (*decorators.model_validators.values(), *decorators.root_validators.values())
    config = getattr(kind, "model_config", None) or getattr(kind, "__pydantic_config__", None) or {}
    if config.get("extra") == "allow" or any(getattr(v.info, "mode", "before") != "after" for v in first):
        return None
    names = {name: name for name in (*fields, *decorators.computed_fields)}
    for field, said in fields.items():
        for alias in (said.alias, said.validation_alias, said.serialization_alias):
            choices = getattr(alias, "choices", None) or [alias]
            for choice in choices:
                name = getattr(choice, "path", [choice])[0]
                if isinstance(name, str):
                    names.setdefault(name, field)
    return names
