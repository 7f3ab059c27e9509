import json
from pathlib import Path

from click.testing import CliRunner

from pypilot.cli.main import main
from tests.sources.texts import gateway, route, service, stream
from tests.xds.certificates import Authority


def run(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["validate", *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def backends() -> tuple[str, str]:
    """What the route leads to."""
    texts = (service(name).replace("}\nspec", ", namespace: web}\nspec") for name in ("first", "second"))
    first, second = texts
    return first, second


def test_good_files_are_good(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(stream(route(), *backends(), gateway()))
    code, out, err = run(tmp_path)
    assert (code, out) == (0, "")
    assert err == "no errors, no warnings in 4 objects\n"


def test_references_that_lead_nowhere_are_warned_of(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(stream(route(), backends()[0]))
    code, out, _ = run(tmp_path)
    assert code == 0
    line = (
        f"{tmp_path}/a.yaml:12: warning: VirtualService web/shop: spec.http[0].route[1].destination.host: 'second' is"
    )
    assert out.startswith(line)
    assert out.endswith("[unknown-host]\n")
    found = json.loads(run(tmp_path, "-o", "json")[1])
    assert [(f["code"], f["number"], f["line"]) for f in found] == [("unknown-host", "PP0201", 12)]


def test_each_finding_names_file_line_and_field(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(stream(service(), route(weight=-5)))
    (tmp_path / "b.yaml").write_text("kind: [\n")
    code, out, err = run(tmp_path)
    assert code == 1
    line = next(n for n, text in enumerate(file.read_text().split("\n"), 1) if "weight: -5" in text)
    first = out.splitlines()[0]
    assert first.startswith(f"{file}:{line}: error: VirtualService web/shop: spec.http[0].route[0].weight: ")
    assert f"{tmp_path}/b.yaml:2: error: not valid YAML" in out
    assert "errors" in err


def test_warnings_alone_are_no_failure_unless_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(stream(route().replace("spec:", "spec:\n  nonsense: 1"), *backends()))
    code, out, err = run(tmp_path)
    assert code == 0
    assert "a.yaml:7: warning: VirtualService web/shop: spec.nonsense: unknown field" in out
    assert "no errors, 1 warning" in err
    assert run(tmp_path, "--strict")[0] == 1


def test_findings_as_json(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(route(weight=-5))
    code, out, _ = run(tmp_path, "-o", "json")
    assert code == 1
    first = json.loads(out)[0]
    assert (first["file"], first["line"]) == (f"{tmp_path}/a.yaml", 11)
    assert (first["kind"], first["namespace"], first["name"]) == ("VirtualService", "web", "shop")
    assert first["field"] == "spec.http[0].route[0].weight"


def test_the_mesh_config_is_checked_in_its_file_and_in_the_config_map(tmp_path: Path) -> None:
    mesh = tmp_path / "mesh.txt"
    mesh.write_text("# mesh\noutboundTrafficPolicy:\n  mode: NOBODY\n")
    config = tmp_path / "config"
    config.mkdir()
    indented = "".join(f"    {line}\n" for line in mesh.read_text().splitlines())
    (config / "map.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n"
        + indented
    )
    code, out, _ = run(config, "--mesh-config", mesh)
    assert code == 1
    assert f"{mesh}:3: error: outboundTrafficPolicy.mode" in out
    code, out, _ = run(config)
    assert code == 1
    assert f"{config}/map.yaml:8: error: ConfigMap istio-system/istio: data.mesh: outboundTrafficPolicy.mode" in out


def test_a_missing_path_is_a_wrong_use(tmp_path: Path) -> None:
    code, _, err = run(tmp_path / "nothing")
    assert code == 2
    assert "does not exist" in err


def test_a_key_that_does_not_match_is_named_at_its_line_and_not_shown(tmp_path: Path) -> None:
    pairs = [Authority().issue(dns="shop.example.com") for _ in range(2)]
    certificate, key, other = pairs[0].certificate.decode(), pairs[0].key.decode(), pairs[1].key.decode()
    head = "apiVersion: v1\nkind: Secret\nmetadata: {name: credential, namespace: web}\nstringData:\n"

    def block(name: str, text: str) -> str:
        return f"  {name}: |\n" + "".join(f"    {line}\n" for line in text.splitlines())

    file = tmp_path / "a.yaml"
    file.write_text(head + block("tls.crt", certificate) + block("tls.key", key))
    assert run(file)[0] == 0
    file.write_text(head + block("tls.crt", certificate) + block("tls.key", other))
    code, out, _ = run(file)
    assert code == 1
    lines = file.read_text().split("\n")
    at = [n for n, line in enumerate(lines, 1) if line.strip() in ("tls.crt: |", "tls.key: |")]
    assert any(f"{file}:{n}: error: Secret web/credential: stringData.tls." in out for n in at)
    assert other.splitlines()[1] not in out
