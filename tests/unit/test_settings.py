"""Settings: three sources in order, and an error that names what is wrong and what would be right."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from hal9.errors import ConfigError
from hal9.settings import Settings, load, render


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_without_any_setting_everything_runs_on_loopback() -> None:
    settings = load(None, {"PATH": "/bin"})
    assert settings == Settings()
    assert settings.kafka.bootstrap == "127.0.0.1:9092"
    assert settings.http.host == "127.0.0.1"


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = write(tmp_path / "hal9.toml", '[kafka]\nbootstrap = "a:1"\nwait_s = 5\n[HTTP]\nPORT = 80\n')
    settings = load(file, {"HAL9_KAFKA__BOOTSTRAP": "b:2"})
    assert settings.kafka.bootstrap == "b:2"
    assert settings.kafka.wait_s == 5.0
    assert settings.http.port == 80
    assert load(None, {"HAL9_CONFIG": str(file)}).kafka.bootstrap == "a:1"


def test_topic_names_are_settings_one_by_one(tmp_path: Path) -> None:
    file = write(tmp_path / "hal9.toml", '[topics]\nprefix = "x."\nresponses_flat = "flat-answers"\n')
    topics = load(file, {"HAL9_TOPICS__CONTROL": "decisions"}).topics
    assert topics.overrides() == {"responses.flat": "flat-answers", "control": "decisions"}
    assert topics.names()["responses.flat"] == "flat-answers"
    assert topics.names()["requests"] == "x.requests"
    assert len(topics.names()) == 15


@pytest.mark.parametrize(
    ("environ", "parts"),
    [
        ({"HAL9_KAFKA__BOOTSRAP": "x:1"}, ["KAFKA.BOOTSRAP", "'x:1'", "did you mean KAFKA.BOOTSTRAP?"]),
        ({"HAL9_KAFKA_BOOTSTRAP": "x:1"}, ["HAL9_KAFKA_BOOTSTRAP", "did you mean HAL9_KAFKA__BOOTSTRAP?"]),
        ({"HAL9_KAFFKA__BOOTSTRAP": "x:1"}, ["did you mean KAFKA.BOOTSTRAP?"]),
        ({"HAL9_KAFKA__SECURITY_PROTOCOL": "sasl-ssl"}, ["'sasl-ssl'", "did you mean SASL_SSL?"]),
        ({"HAL9_HTTP__PORT": "99999"}, ["HTTP.PORT", "'99999'", "<= 65535", "HAL9_HTTP__PORT"]),
        ({"HAL9_HTTP__PORT": "web"}, ["HTTP.PORT", "'web'", "a whole number"]),
        ({"HAL9_GUARDIAN__ERROR_RATE": "nan"}, ["GUARDIAN.ERROR_RATE", "nan"]),
        ({"HAL9_GUARDIAN__ERROR_RATE": "5"}, ["GUARDIAN.ERROR_RATE", "<= 1.0"]),
        ({"HAL9_REDIS__CLUSTER": "maybe"}, ["REDIS.CLUSTER", "true or false"]),
        ({"HAL9_REDIS__URL": "http://h"}, ["REDIS.URL", "redis://"]),
        ({"HAL9_KAFKA__BOOTSTRAP": "kafka"}, ["KAFKA.BOOTSTRAP", "host:port"]),
        ({"HAL9_KAFKA__BOOTSTRAP": "kafka:70000"}, ["KAFKA.BOOTSTRAP", "host:port"]),
        ({"HAL9_KAFKA__SECURITY_PROTOCOL": "SASL_SSL"}, ["KAFKA.SASL_USERNAME"]),
        ({"HAL9_KAFKA__SSL_CAFILE": "/no/such/ca.pem"}, ["KAFKA.SSL_CAFILE", "/no/such/ca.pem"]),
        ({"HAL9_TOPICS__REQUESTS": "hal9.control"}, ["TOPICS", "hal9.control"]),
        ({"HAL9_TOPICS__PREFIX": "a b"}, ["TOPICS.PREFIX", "'a b'"]),
        ({"HAL9_MIGRATION__ID": "a\nb"}, ["MIGRATION.ID", "printed"]),
        ({"HAL9_CONFIG": "/no/such/file.toml"}, ["/no/such/file.toml"]),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_the_nearest_right_one(
    environ: dict[str, str], parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, environ)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[kafka]\nbootstrap = 3\n", "KAFKA.BOOTSTRAP = 3"),
        ('[http]\nport = "80"\n', "HTTP.PORT = '80'"),
        ("[kafk]\nbootstrap = 'a:1'\n", "KAFKA.BOOTSTRAP"),
        ("bootstrap = 'a:1'\n", "section"),
        ("[kafka", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=r"hal9\.toml") as caught:
        load(write(tmp_path / "hal9.toml", text), {})
    assert part in str(caught.value)


def test_no_error_and_no_rendering_shows_a_secret() -> None:
    environ = {"HAL9_KAFKA__SASL_PASSWORD": "hunter2", "HAL9_REDIS__URL": "redis://me:hun@ter2@host:1/0"}
    text = render(load(None, environ))
    assert "hunter2" not in text
    assert "ter2" not in text
    assert "redis://***@host:1/0" in text
    for wrong in ("HAL9_KAFKA__SASL_PASWORD", "HAL9_KAFKA__SSL_PASSWORT"):
        with pytest.raises(ConfigError) as caught:
            load(None, {wrong: "hunter2"})
        assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        load(None, {"HAL9_REDIS__URL": "ftp://me:hunter2@host"})
    assert "hunter2" not in str(caught.value)


def test_a_service_is_shown_the_shared_sections_and_its_own() -> None:
    text = render(Settings(), "router")
    assert "[kafka]" in text
    assert "[router]" in text
    assert "[guardian]" not in text


@given(
    prefix=st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True),
    migration=st.text(min_size=1, max_size=20).filter(str.isprintable),
    port=st.integers(-1, 65535),
    rate=st.floats(0, 1),
    check=st.sampled_from(["true", "false"]),
)
def test_what_is_rendered_is_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, prefix: str, migration: str, port: int, rate: float, check: str
) -> None:
    environ = {
        "HAL9_TOPICS__PREFIX": prefix,
        "HAL9_MIGRATION__ID": migration,
        "HAL9_HTTP__PORT": str(port),
        "HAL9_GUARDIAN__ERROR_RATE": repr(rate),
        "HAL9_KAFKA__SSL_CHECK_HOSTNAME": check,
    }
    settings = load(None, environ)
    assert settings.http.port == port
    assert settings.guardian.error_rate == rate
    file = write(tmp_path_factory.mktemp("settings") / "hal9.toml", render(settings))
    assert load(file, {}) == settings


def test_every_default_is_itself_a_legal_value() -> None:
    settings = Settings()
    for section in fields(Settings):
        for info in fields(section.type):
            value = getattr(getattr(settings, section.name), info.name)
            text = str(value).lower() if isinstance(value, bool) else str(value)
            loaded = load(None, {f"HAL9_{section.name}__{info.name}".upper(): text})
            assert getattr(getattr(loaded, section.name), info.name) == value
