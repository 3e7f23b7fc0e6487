"""A warning of one topic is given once."""

import warnings

import pytest

from exp_pool.errors import (
    ExpPoolWarning,
)
from exp_pool.runtime.notices import Notices


def test_a_notice_is_given_once_and_is_never_an_error():
    notices = Notices()
    with pytest.warns(ExpPoolWarning, match="act on it") as caught:
        notices.warn_once("topic", "act on it")
        notices.warn_once("topic", "act on it")
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notices.warn_once("other", "act on it")
