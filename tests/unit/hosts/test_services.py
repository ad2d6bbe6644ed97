"""Services that meddle, read from /proc and their files."""

from __future__ import annotations

from pathlib import Path

from mptcplab.hosts.services import running_services


def process(root: Path, number: int, name: str, namespace: str = "net:[1]") -> None:
    """Make a process of a name in a root folder, and its network namespace."""
    folder = root / "proc" / str(number)
    (folder / "ns").mkdir(parents=True)
    (folder / "comm").write_text(f"{name}\n")
    (folder / "ns" / "net").symlink_to(namespace)


def write(root: Path, name: str, text: str) -> None:
    """Write a configuration file."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_what_runs_in_this_namespace_is_found_with_its_settings(tmp_path: Path) -> None:
    process(tmp_path, 1, "init")
    (tmp_path / "proc" / "self").symlink_to("1")
    process(tmp_path, 20, "NetworkManager")
    process(tmp_path, 21, "systemd-network")
    process(tmp_path, 22, "mptcpd", "net:[2]")
    write(tmp_path, "etc/NetworkManager/NetworkManager.conf",
          "[connection]\nconnection.mptcp-flags=0x22\n")  # fmt: skip
    write(tmp_path, "etc/NetworkManager/system-connections/home.nmconnection",
          "[connection]\nid=home\nmptcp-flags=0x1\n")  # fmt: skip
    write(tmp_path, "etc/systemd/networkd.conf",
          "[Network]\nManageForeignRoutingPolicyRules=no\n")  # fmt: skip
    found = {each.name: dict(each.settings) for each in running_services(tmp_path)}
    assert found == {
        "NetworkManager": {"connection.mptcp-flags": "0x22", "mptcp-flags of home": "0x1"},
        "systemd-networkd": {"ManageForeignRoutingPolicyRules": "no"},
    }


def test_files_that_are_no_configuration_are_passed_over(tmp_path: Path) -> None:
    process(tmp_path, 20, "mptcpd")
    write(tmp_path, "etc/mptcpd/mptcpd.conf", "no section = here\n")
    (tmp_path / "proc" / "self").symlink_to("20")
    (service,) = running_services(tmp_path)
    assert service.settings == {}
