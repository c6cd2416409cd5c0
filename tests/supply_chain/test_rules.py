"""What each check of the audit takes for a finding."""

from __future__ import annotations

import json
import tomllib

import pytest

from requirements.audit import advisories, environments, locks
from tests.supply_chain.conftest import HASH, ROOT

POLICY = tomllib.loads((ROOT / "requirements" / "audit" / "policy.toml").read_text())


class TestLocks:
    @pytest.mark.parametrize(
        ("line", "finding"),
        [
            ("harmless==1.0", "harmless has no sha256 hash"),
            ("harmless==1.0 --hash=md5:0123", "harmless has no sha256 hash"),
            ("harmless==1.0 --hash=sha256:0123", "harmless has no sha256 hash"),
            (f"harmless>=1.0 {HASH}", "harmless has no exact version"),
            (
                f"harmless @ https://example.com/harmless.whl {HASH}",
                "harmless comes from an address of its own",
            ),
            ("--extra-index-url https://example.com/", "an option instead of a package: --extra-index-url"),
        ],
    )
    def test_what_is_no_lock_is_found(self, tmp_path, line, finding):
        lock = tmp_path / "requirements.lock"
        lock.write_text(line + "\n")
        assert locks.read(lock)[1] == [f"requirements.lock: {finding}"]

    def test_a_lock_is_read_with_markers_and_extras(self, tmp_path):
        lock = tmp_path / "requirements.lock"
        lock.write_text(
            f"# made by hand\nA_b[c]==1.0 ; sys_platform == 'linux' \\\n    {HASH} \\\n    {HASH}\n    # via x\n"
        )
        assert locks.read(lock) == ([locks.Locked("a-b", "1.0", "requirements.lock")], [])

    @pytest.mark.parametrize(
        ("entry", "finding"),
        [
            ({"integrity": ""}, "left has no sha512 hash"),
            ({"integrity": "sha1-AAAA"}, "left has no sha512 hash"),
            ({"resolved": "https://example.com/left.tgz"}, "left names an address"),
            ({"hasInstallScript": True}, "left runs a script when it is installed"),
        ],
    )
    def test_a_lock_of_npm_is_judged_too(self, tmp_path, entry, finding):
        lock = tmp_path / "package-lock.json"
        whole = {"version": "1.0.0", "integrity": "sha512-" + "A" * 86 + "=="}
        lock.write_text(json.dumps({"packages": {"": {}, "node_modules/left": {**whole, **entry}}}))
        packages, findings = locks.read(lock)
        assert packages == [locks.Locked("left", "1.0.0", "package-lock.json", "npm")]
        assert findings == [f"package-lock.json: {finding}"]


def affects(name: str, version: str, ecosystem: str = "PyPI", more: dict | None = None, **affected) -> bool:
    """Say whether an advisory on harmless names this package."""
    entry = {"package": {"ecosystem": ecosystem, "name": "harmless"}, **affected}
    advisory = {"id": "TEST-1", "affected": [entry], **(more or {})}
    return bool(advisories.matches([locks.Locked(name, version, "a.lock", ecosystem)], [advisory]))


class TestAdvisories:
    @pytest.mark.parametrize(
        ("events", "affected"),
        [
            ([{"introduced": "0"}], True),
            ([{"introduced": "0"}, {"fixed": "1.0.1"}], True),
            ([{"introduced": "0"}, {"fixed": "1.0"}], False),
            ([{"introduced": "0"}, {"last_affected": "1.0"}], True),
            ([{"introduced": "0"}, {"last_affected": "0.9"}], False),
            ([{"introduced": "1.0"}], True),
            ([{"introduced": "1.0.1"}], False),
            ([{"introduced": "0"}, {"fixed": "0.5"}, {"introduced": "0.9"}, {"fixed": "1.1"}], True),
            ([{"introduced": "0.9"}, {"fixed": "1.1"}, {"introduced": "0"}, {"fixed": "0.5"}], True),
            ([{"introduced": "0"}, {"fixed": "1.0rc1"}], False),
        ],
    )
    def test_a_range_is_meant_as_osv_defines_it(self, events, affected):
        assert affects("harmless", "1.0", ranges=[{"type": "ECOSYSTEM", "events": events}]) is affected

    def test_ranges_of_commits_say_nothing_about_a_release(self):
        assert not affects("harmless", "1.0", ranges=[{"type": "GIT", "events": [{"introduced": "0"}]}])

    def test_a_listed_version_may_be_written_otherwise(self):
        assert affects("harmless", "1.0", versions=["1.0.0"])

    def test_another_package_or_ecosystem_is_not_meant(self):
        assert not affects("harmful", "1.0", versions=["1.0"])
        package = locks.Locked("harmless", "1.0", "package-lock.json", "npm")
        advisory = {"affected": [{"package": {"ecosystem": "PyPI", "name": "harmless"}, "versions": ["1.0"]}]}
        assert not advisories.matches([package], [{"id": "TEST-1", **advisory}])

    def test_a_name_may_be_written_otherwise(self):
        entry = {"package": {"ecosystem": "PyPI", "name": "Harm_Less"}, "versions": ["1.0"]}
        assert advisories.matches(
            [locks.Locked("harm-less", "1.0", "a")], [{"id": "TEST-1", "affected": [entry]}]
        )

    @pytest.mark.parametrize(
        ("version", "affected"),
        [
            ("4.0.9", True),
            ("4.0.10", True),
            ("4.1.0-beta.2", True),
            ("4.1.0", False),
            ("4.1.0+1", False),
            ("10.0.0", False),
        ],
    )
    def test_versions_of_npm_are_in_semvers_order(self, version, affected):
        ranges = [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "4.1.0"}]}]
        assert affects("harmless", version, "npm", ranges=ranges) is affected

    def test_a_pre_release_may_be_the_fixed_one(self):
        ranges = [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "1.0.0-beta.10"}]}]
        assert affects("harmless", "1.0.0-beta.9", "npm", ranges=ranges)
        assert not affects("harmless", "1.0.0-rc.1", "npm", ranges=ranges)

    def test_a_withdrawn_one_does_not_count(self):
        assert affects("harmless", "1.0", versions=["1.0"])
        assert not affects("harmless", "1.0", versions=["1.0"], more={"withdrawn": "2026-01-01T00:00:00Z"})


class TestStartUpCode:
    @pytest.fixture
    def site_packages(self, tmp_path):
        folder = tmp_path / "lib" / "python3.11" / "site-packages"
        folder.mkdir(parents=True)
        return folder

    def found(self, tmp_path) -> list[str]:
        return environments.start_up_code(
            tmp_path, ROOT, environments.Policy(frozenset(), start_up=POLICY["start_up"])
        )

    def test_a_path_to_elsewhere_is_found(self, tmp_path, site_packages):
        (site_packages / "planted.pth").write_text("/tmp/elsewhere\n")
        assert len(self.found(tmp_path)) == 1

    def test_a_known_name_with_other_content_is_found(self, tmp_path, site_packages):
        (site_packages / "distutils-precedence.pth").write_text("import planted\n")
        assert len(self.found(tmp_path)) == 1

    @pytest.mark.parametrize("name", ["sitecustomize.py", "usercustomize.py"])
    def test_a_module_that_every_start_imports_is_found(self, tmp_path, site_packages, name):
        (site_packages / name).write_text("")
        assert len(self.found(tmp_path)) == 1

    def test_the_project_itself_may_be_installed_editable(self, tmp_path, site_packages):
        (site_packages / "_editable_impl_neev_provider.pth").write_text(str(ROOT))
        assert self.found(tmp_path) == []


class TestLicences:
    def refused(self, *stated: str, name: str = "planted") -> list[str]:
        policy = environments.Policy(frozenset(POLICY["licences"]), POLICY["licensed"])
        return environments.forbidden({name: list(stated)}, policy)

    @pytest.mark.parametrize(
        "stated",
        [
            ["AGPL-3.0-only"],
            ["MIT AND GPL-3.0-only"],
            ["MIT", "GPL-3.0-only"],
            ["GPL-3.0-only OR AGPL-3.0-only"],
            ["MIT AND (GPL-3.0-only OR AGPL-3.0-only)"],
            ["LicenseRef-Proprietary"],
            ["License :: OSI Approved"],
            [],
        ],
    )
    def test_what_is_not_allowed_is_found(self, stated):
        assert len(self.refused(*stated)) == 1

    @pytest.mark.parametrize(
        "stated",
        [
            ["Apache-2.0"],
            ["GPL-3.0-only OR MIT"],
            ["MPL-2.0 AND (GPL-3.0-only OR MIT)"],
            ["GPL-3.0-only AND MIT OR ISC"],
            ["MIT", "License :: OSI Approved"],
            ["License :: OSI Approved :: BSD License"],
        ],
    )
    def test_what_is_allowed_is_not(self, stated):
        assert self.refused(*stated) == []

    def test_a_package_may_be_accepted_by_name(self):
        assert self.refused("LGPL-3.0-only", name="psycopg") == []
