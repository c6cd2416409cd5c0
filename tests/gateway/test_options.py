"""What `serve` is told: flags before the file before the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from neev_provider.config_schema import LiteLLMOptions, LogOptions, NeevSettings, ServerOptions
from neev_provider.errors import ConfigError
from neev_provider.gateway.options import Flags, resolve

CONFIG = Path("proxy_config.yaml")
FILE = NeevSettings(
    server=ServerOptions(host="10.0.0.1", port=8080, metrics_port=0, workers=3, grace=7, max_body_bytes=5000),
    litellm=LiteLLMOptions(enabled=False, routes=["/v1/embeddings"]),
    log=LogOptions(level="warning", format="json"),
    store="redis://store:6379",
)


def test_defaults_count_where_nobody_says_anything():
    options = resolve(Flags(config=CONFIG), NeevSettings(), terminal=True)
    assert (options.host, options.port, options.metrics_port, options.workers) == ("127.0.0.1", 4000, 9090, 1)
    assert options.store == "embedded"
    assert (options.litellm, options.grace, options.log_level, options.log_format) == (
        True,
        30,
        "info",
        "console",
    )


def test_the_file_goes_before_the_defaults():
    options = resolve(Flags(config=CONFIG), FILE, terminal=True)
    assert (options.host, options.port, options.metrics_port, options.workers) == ("10.0.0.1", 8080, 0, 3)
    assert (options.litellm, options.litellm_routes, options.store) == (
        False,
        ["/v1/embeddings"],
        "redis://store:6379",
    )
    assert (options.grace, options.log_level, options.log_format) == (7, "warning", "json")
    assert options.limits == {"max_body_bytes": 5000}


def test_flags_go_before_the_file():
    flags = Flags(
        config=CONFIG, host="::1", port=1, metrics_port=2, workers=1, litellm=True, grace=0, store="embedded",
        log_level="debug", log_format="console",
    )  # fmt: skip
    options = resolve(flags, FILE, terminal=False)
    assert (options.host, options.port, options.metrics_port, options.workers) == ("::1", 1, 2, 1)
    assert (options.litellm, options.grace, options.store) == (True, 0, "embedded")
    assert (options.log_level, options.log_format) == ("debug", "console")
    assert options.address == "http://[::1]:1"


def test_one_port_for_two_things_is_refused():
    with pytest.raises(ConfigError) as refused:
        resolve(Flags(config=CONFIG, port=4000, metrics_port=4000), NeevSettings(), terminal=True)
    assert str(refused.value).startswith("--metrics-port: 4000: is the API's port too. Choose another")


def test_logs_are_json_where_no_person_reads_them():
    assert resolve(Flags(config=CONFIG), NeevSettings(), terminal=False).log_format == "json"


@pytest.mark.parametrize("given", ["localhost:6379", "http://x", "rediss:/x", "sk-secret"])
def test_a_store_that_is_none_is_refused_and_not_shown(given):
    with pytest.raises(ConfigError) as caught:
        resolve(Flags(config=CONFIG, store=given), NeevSettings(), terminal=True)
    assert caught.value.source == "--store"
    assert given not in str(caught.value)


class TestALiteLLMThatIsRunElsewhere:
    def test_is_named_by_its_url(self):
        flags = Flags(config=CONFIG, litellm_url="http://127.0.0.1:4001/")
        assert resolve(flags, NeevSettings(), terminal=True).litellm_url == "http://127.0.0.1:4001"

    @pytest.mark.parametrize(
        "given", ["127.0.0.1:4001", "http://", "http://u:p@host", "http://host/v1", "ftp://x"]
    )
    def test_is_refused_and_not_shown_if_its_url_is_none(self, given):
        with pytest.raises(ConfigError) as caught:
            resolve(Flags(config=CONFIG, litellm_url=given), NeevSettings(), terminal=True)
        assert caught.value.source == "--litellm-url"
        assert given not in str(caught.value).replace("http://127.0.0.1:4001, without", "")

    def test_cannot_be_wanted_and_not_wanted(self):
        with pytest.raises(ConfigError, match="contradicts --no-litellm"):
            resolve(
                Flags(config=CONFIG, litellm=False, litellm_url="http://127.0.0.1:4001"),
                NeevSettings(),
                terminal=True,
            )
