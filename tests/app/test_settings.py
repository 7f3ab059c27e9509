from pathlib import Path

import pytest

from pypilot.settings import SETTINGS, Settings, SettingsError, flag_of, read_settings, variable_of


def test_without_anything_the_defaults_hold() -> None:
    settings = read_settings({}, {})
    assert settings == Settings()
    assert settings.grpc_addr.startswith("127.0.0.1:"), "the plaintext port is for this machine only"
    assert settings.secure_grpc_addr == ""


def test_a_flag_wins_over_the_environment_and_that_over_the_default() -> None:
    environment = {"PYPILOT_GRPC_ADDR": "127.0.0.1:1", "PYPILOT_CLUSTER_ID": "east", "PYPILOT_CONFIG": "a:b/c"}
    settings = read_settings({"grpc_addr": "127.0.0.1:2", "cluster_id": None}, environment)
    assert settings.grpc_addr == "127.0.0.1:2"
    assert settings.cluster_id == "east"
    assert settings.cluster_domain == "cluster.local"
    assert settings.config == (Path("a"), Path("b/c"))
    assert read_settings({"config": ("x",)}, environment).config == (Path("x"),)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("grpc_addr", ":15010", "0.0.0.0:15010"),
        ("grpc_addr", "[::1]:15010", "[::1]:15010"),
        ("http_addr", "", ""),
        ("ambient", "false", False),
        ("ambient", "ON", True),
        ("debounce_max", "2.5", 2.5),
        ("concurrent_pushes", "7", 7),
        ("mesh_config", "m.yaml", Path("m.yaml")),
        ("mesh_config", "", None),
        ("plaintext_secrets", "never", "never"),
    ],
)
def test_texts_are_converted(name: str, text: str, value: object) -> None:
    assert getattr(read_settings({name: text}, {}), name) == value
    assert getattr(read_settings({}, {variable_of(name): text}), name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("grpc_addr", "15010x"),
        ("grpc_addr", "::1:15010"),
        ("grpc_addr", "host:99999"),
        ("ambient", "maybe"),
        ("debounce_quiet", "-1"),
        ("debounce_quiet", "soon"),
        ("concurrent_pushes", "0"),
        ("plaintext_secrets", "everybody"),
        ("log_level", "loud"),
        ("cluster_domain", ""),
    ],
)
def test_what_cannot_be_used_is_named_by_where_it_came_from(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=flag_of(name)):
        read_settings({name: text}, {})
    with pytest.raises(SettingsError, match=variable_of(name)):
        read_settings({}, {variable_of(name): text})


def test_the_tls_port_is_on_when_it_has_a_certificate() -> None:
    files = {"tls_cert": "c", "tls_key": "k"}
    assert read_settings(files, {}).secure_grpc_addr == "0.0.0.0:15012"
    assert read_settings({**files, "secure_grpc_addr": ""}, {}).secure_grpc_addr == ""
    assert read_settings({**files, "secure_grpc_addr": "127.0.0.1:1"}, {}).secure_grpc_addr == "127.0.0.1:1"
    with pytest.raises(SettingsError, match="--tls-key"):
        read_settings({"tls_cert": "c"}, {})
    with pytest.raises(SettingsError, match="--secure-grpc-addr"):
        read_settings({"secure_grpc_addr": "127.0.0.1:1"}, {})


def test_debounce_times_go_together() -> None:
    with pytest.raises(SettingsError, match="--debounce-max"):
        read_settings({"debounce_quiet": "1", "debounce_max": "0.5"}, {})


def test_every_setting_has_help_with_its_unit() -> None:
    for name, setting in SETTINGS.items():
        assert setting.help.endswith(".")
        if setting.metavar == "SECONDS":
            assert "econds" in setting.help
        assert getattr(Settings(), name) is not ...


def test_a_ca_in_a_directory_opens_the_tls_port_and_goes_with_no_other_identity(tmp_path):
    ca = {"ca_dir": str(tmp_path)}
    assert read_settings({**ca, "token_keys": "keys.json"}, {}).secure_grpc_addr == "0.0.0.0:15012"
    assert read_settings({**ca, "secure_grpc_addr": "127.0.0.1:1"}, {}).secure_grpc_addr == "127.0.0.1:1"
    for wrong in ({**ca, "kubernetes": True}, {**ca, "tls_cert": "c", "tls_key": "k"}, {"token_keys": "keys.json"}):
        with pytest.raises(SettingsError, match="--ca-dir"):
            read_settings(wrong, {})
