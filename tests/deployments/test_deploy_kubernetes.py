"""The Kubernetes manifest, against Kubernetes' own schemas, and its probes and settings against real nodes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import kubernetes_validate
import pytest
import yaml

from remoterun.cli.serve import transport_settings
from remoterun.config import Loaded, load
from remoterun.testing import running_node
from tests.deployments.front import DEPLOY
from tests.gateways import running_gateway

_PATIENCE = 30.0
MANIFEST = (DEPLOY / "kubernetes" / "remoterun.yaml").read_text()
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all(MANIFEST))


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = (each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


NODE = named("StatefulSet", "remoterun-node")["spec"]
GATEWAY = named("Deployment", "remoterun-gateway")["spec"]
PODS = {"node": NODE["template"]["spec"], "gateway": GATEWAY["template"]["spec"]}


def containers() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for pod in PODS.values():
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            yield pod, container


def settings(key: str, tmp_path: Path) -> Loaded:
    path = tmp_path / key
    path.write_text(named("ConfigMap", "remoterun")["data"][key])
    return load(flags={}, env={}, file=path, sections=transport_settings())


@pytest.mark.parametrize("each", OBJECTS, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_kubernetes_would_take_it(each: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(each, version, strict=True)


def test_the_schemas_find_what_is_wrong() -> None:
    broken = {**named("Service", "remoterun"), "specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError, match="specs"):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def test_pods_satisfy_the_restricted_standard() -> None:
    """As https://kubernetes.io/docs/concepts/security/pod-security-standards/ says, and a root that is read-only."""
    for pod, container in containers():
        security = container["securityContext"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        assert container["resources"]["limits"]["memory"]
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        volumes = {next(key for key in volume if key != "name") for volume in pod["volumes"]}
        assert volumes <= {"configMap", "secret", "emptyDir"}


def test_what_refers_to_something_finds_it() -> None:
    made = {each["metadata"]["name"] for each in OBJECTS if each["kind"] == "ConfigMap"} | {"remoterun-scripts"}
    for pod in PODS.values():
        known = {volume["name"] for volume in pod["volumes"]} | {"data"}
        assert {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume} <= made
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            assert {mount["name"] for mount in container["volumeMounts"]} <= known
    labels = [spec["template"]["metadata"]["labels"] for spec in (NODE, GATEWAY)]
    for each in OBJECTS:
        chosen = each["spec"].get("selector") or each["spec"].get("podSelector") if "spec" in each else None
        if chosen:
            assert chosen.get("matchLabels", chosen) in labels
    assert NODE["serviceName"] == named("Service", "remoterun-node")["metadata"]["name"]


def test_patience_is_longer_than_grace(tmp_path: Path) -> None:
    graces = {"node": "remoterun.toml", "gateway": "gateway.toml"}
    for name, key in graces.items():
        held = settings(key, tmp_path).node
        paused = 5 if name == "gateway" else 0  # its preStop
        assert held.grace + 2 + paused < PODS[name]["terminationGracePeriodSeconds"]


def test_settings_and_mounts_agree(tmp_path: Path) -> None:
    held = settings("remoterun.toml", tmp_path)
    (node,) = PODS["node"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in node["volumeMounts"]}
    assert Path(held.node.data).parent == Path(mounts["data"]) == Path(held.node.secrets).parent
    assert held.node.scripts == (f"{mounts['scripts']}/..data",)
    ports = {port["containerPort"] for port in node["ports"]}
    assert ports == {int(each.rpartition(":")[2]) for name in ("http", "socket") for each in held.sections[name].listen}
    (gateway,) = PODS["gateway"]["containers"]
    environment = {each["name"]: each.get("value") for each in gateway["env"]}
    assert environment["REMOTERUN_URL"] == f"tcp://{NODE['serviceName']}:7460"
    settings("gateway.toml", tmp_path)
    assert GATEWAY["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def probes(pod: str) -> dict[str, str]:
    (container,) = PODS[pod]["containers"]
    found = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in found.values()} == {"http"}
    return {name: probe["path"] for name, probe in found.items()}


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_the_probes_of_both_say_what_kubernetes_takes_them_for(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()

    def codes(url: str, paths: dict[str, str]) -> dict[str, int]:
        return {name: httpx2.get(url + path).status_code for name, path in paths.items()}

    with running_node(tmp_path / "scripts") as node:
        assert {*codes(node.urls["http"], probes("node")).values()} == {200}
        with running_gateway(node.urls["tcp"], tmp_path, node.token) as url:
            eventually(lambda: {*codes(url, probes("gateway")).values()} == {200}, "the gateway is ready")
            node.stop()
            eventually(
                lambda: codes(url, probes("gateway")) == {"startup": 200, "liveness": 200, "readiness": 503},
                "without a node a gateway lives and is not ready",
            )


def test_scripts_of_a_config_map_are_found_and_noticed_as_they_change(tmp_path: Path) -> None:
    """The layout of a config map's volume: everybody may write the folder, `..data` leads to what root wrote."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)

    def write(version: str) -> None:
        (volume / f"..{version}").mkdir(mode=0o755)
        (volume / f"..{version}" / "hello.py").write_text(f"print({version!r})")
        (volume / "..data_tmp").symlink_to(f"..{version}")
        os.replace(volume / "..data_tmp", volume / "..data")  # noqa: PTH105 - as Kubernetes does it

    write("first")
    (volume / "hello.py").symlink_to("..data/hello.py")
    (scripts,) = re.findall(r'scripts = \["/srv/scripts(/.*)"\]', MANIFEST)
    with running_node(f"{volume}{scripts}") as node, node.connect() as client:
        assert client.run("hello") == "first\n"
        write("second")
        eventually(lambda: bool(client.run("hello") == "second\n"), "the new version is found")
