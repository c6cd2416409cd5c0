"""What a deployment may be, and that it keeps its secrets."""

from __future__ import annotations

import pytest

from neev_provider.errors import ConfigError
from neev_provider.upstream import Deployment, Timeouts, normalise_base_url

KEY = "sk-nc-0123456789abcdef"


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("https://inference.ai.neevcloud.com", "https://inference.ai.neevcloud.com/v1"),
        ("https://inference.ai.neevcloud.com/", "https://inference.ai.neevcloud.com/v1"),
        ("https://inference.ai.neevcloud.com/v1", "https://inference.ai.neevcloud.com/v1"),
        ("https://inference.ai.neevcloud.com/v1//", "https://inference.ai.neevcloud.com/v1"),
        (" https://host/v1\n", "https://host/v1"),
        ("HTTPS://Host/Endpoints/Abc", "https://host/Endpoints/Abc/v1"),
        ("http://127.0.0.1:8000/openai/v1beta", "http://127.0.0.1:8000/openai/v1beta"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_base_url_has_one_form(given, normal):
    assert normalise_base_url(given) == normal
    assert normalise_base_url(normal) == normal


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "is not an http:// or https:// URL"),
        ("host/v1", "is not an http:// or https:// URL"),
        ("ftp://host", "is not an http:// or https:// URL"),
        ("file:///etc/passwd", "is not an http:// or https:// URL"),
        ("https://", "names no host"),
        ("https://user:hunter2@host/v1", "holds a user name or password"),
        ("https://host/v1?key=hunter2", "holds a query or fragment"),
        ("https://host/v1#hunter2", "holds a query or fragment"),
        ("https://host:notaport/v1", "is not a URL"),
        ("https://host:99999/v1", "is not a URL"),
        ("https://[::1/v1", "is not a URL"),
        ("https://ho st/v1", "holds blanks or characters that a URL cannot have"),
        ("https://host/v1\r\nx: y", "holds blanks or characters that a URL cannot have"),
        ("https://höst/v1", "holds blanks or characters that a URL cannot have"),
        ("https://host/v1/chat/completions", "is the URL of one endpoint"),
    ],
)
def test_base_url_that_cannot_be_used_is_refused_without_quoting_it(url, problem):
    with pytest.raises(ConfigError) as caught:
        normalise_base_url(url, source="environment", place="NEEV_BASE_URL")
    assert str(caught.value).startswith(f"environment: NEEV_BASE_URL: {problem}.")
    assert "hunter2" not in str(caught.value)


def test_deployment_keeps_the_base_url_in_its_one_form():
    deployment = Deployment("a", "https://host/", KEY)
    assert deployment.base_url == "https://host/v1"
    assert deployment.chat.head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nhost: host\r\n")
    assert deployment.speech.head.startswith(b"POST /v1/audio/speech HTTP/1.1\r\nhost: host\r\n")
    assert deployment.models.head.startswith(b"GET /v1/models HTTP/1.1\r\nhost: host\r\n")
    assert deployment.chat.origin == ("host", 443, True)


def test_the_host_header_names_a_port_that_is_not_the_schemes_own():
    assert b"host: host:8443\r\n" in Deployment("a", "https://host:8443/", KEY).chat.head
    assert b"host: [::1]:80\r\n" not in Deployment("a", "http://[::1]:80/", KEY).chat.head


def test_deployment_never_shows_its_key_nor_its_headers():
    deployment = Deployment("a", "https://host", KEY, {"x-secret": "hunter2"})
    assert KEY not in repr(deployment) + str(deployment) + f"{deployment}"
    assert "hunter2" not in repr(deployment)


def test_deployments_can_be_compared_and_kept_in_sets():
    assert (
        len(
            {
                Deployment("a", "https://host", KEY, {"x": "1"}),
                Deployment("a", "https://host/v1/", KEY, {"x": "1"}),
            }
        )
        == 1
    )
    assert Deployment("a", "https://host", KEY) != Deployment("a", "https://host", KEY + "x")


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"base_url": "nonsense"}, "base_url"),
        ({"api_key": ""}, "api_key"),
        ({"api_key": "sk-nc-1\n"}, "api_key"),
        ({"api_key": "sk-nc-1 sk-nc-2"}, "api_key"),
        ({"api_key": "sk-nc-é"}, "api_key"),
        ({"headers": {"Authorization": "Bearer other"}}, "headers.Authorization"),
        ({"headers": {"Host": "elsewhere"}}, "headers.Host"),
        ({"headers": {"transfer-encoding": "chunked"}}, "headers.transfer-encoding"),
        ({"headers": {"x": "hunter2\r\ny: b"}}, "headers"),
        ({"headers": {"x y": "hunter2"}}, "headers"),
        ({"headers": {"": "hunter2"}}, "headers"),
    ],
)
def test_deployment_that_cannot_work_is_refused_by_name(fields, place):
    with pytest.raises(ConfigError) as caught:
        Deployment(**{"name": "team-a", "base_url": "https://host", "api_key": KEY, **fields})
    assert str(caught.value).startswith(f"deployment team-a: {place}: ")
    for value in (fields.get("api_key"), *fields.get("headers", {}).values()):
        assert not value or value not in str(caught.value)


def test_timeouts_are_neevai_s_by_default():
    assert (Timeouts().connect, Timeouts().idle, Timeouts().total) == (5.0, 120.0, 600.0)


@pytest.mark.parametrize("field", ["connect", "idle", "total"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_timeouts_are_positive(field, value):
    with pytest.raises(ValueError, match=field):
        Timeouts(**{field: value})
