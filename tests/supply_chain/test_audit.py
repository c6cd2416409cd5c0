"""`make audit` fails on what was planted, and on nothing where nothing was."""

from __future__ import annotations

from tests.supply_chain.conftest import ROOT, Audit, run_audit


def test_nothing_is_found_where_nothing_is_wrong(audit: Audit):
    done = audit.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 locked packages in 1 locks, 1 installed with a licence read" in done.stdout


def test_the_projects_own_locks_are_whole_and_name_no_reported_package():
    done = run_audit("--advisories", "none")
    locks = [
        *ROOT.glob("requirements*.lock"),
        *ROOT.glob("tests/**/programs/*/package-lock.json"),
        *ROOT.glob("benchmarks/*/package-lock.json"),
    ]
    assert done.returncode == 0, done.stdout + done.stderr
    assert f" in {len(locks)} locks" in done.stdout


def test_the_document_names_every_lock():
    document = (ROOT / "docs" / "supply-chain.md").read_text()
    locks = {lock.name for lock in ROOT.glob("requirements*.lock")}
    assert {lock for lock in locks if f"`{lock}`" in document} == locks


class TestPlanted:
    def test_a_pth_file(self, audit: Audit):
        (audit.site_packages / "planted.pth").write_text("import os; os.environ.clear()\n")
        done = audit.run()
        assert done.returncode == 1
        assert "planted.pth: is not a .pth file that the policy knows" in done.stdout

    def test_a_licence(self, audit: Audit):
        audit.installs("planted", "License-Expression: AGPL-3.0-only")
        done = audit.run()
        assert done.returncode == 1
        assert "planted: licence AGPL-3.0-only is not allowed" in done.stdout

    def test_a_licence_in_a_classifier(self, audit: Audit):
        audit.installs(
            "planted", "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)"
        )
        done = audit.run()
        assert done.returncode == 1
        assert "  planted: licence " in done.stdout

    def test_no_licence(self, audit: Audit):
        audit.installs("planted", "Summary: says nothing")
        done = audit.run()
        assert done.returncode == 1
        assert "planted: says no licence" in done.stdout

    def test_a_vulnerable_version(self, audit: Audit):
        audit.advises(version="1.0")
        done = audit.run()
        assert done.returncode == 1
        assert "requirements.lock: harmless 1.0: TEST-1 is broken" in done.stdout

    def test_a_reported_package_without_any_database(self, audit: Audit):
        audit.locks("litellm==1.107.0")
        done = audit.run("--advisories", "none")
        assert done.returncode == 1
        assert "NEEV-2026-0001" in done.stdout

    def test_a_package_without_a_hash(self, audit: Audit):
        audit.lock.write_text("harmless==1.0\n")
        done = audit.run()
        assert done.returncode == 1
        assert "harmless has no sha256 hash" in done.stdout


class TestDatabase:
    def test_an_old_one_is_a_finding(self, audit: Audit):
        audit.advises(version="0.1", modified="2024-01-01T00:00:00Z")
        done = audit.run()
        assert done.returncode == 1
        assert "its newest advisory is of 2024-01-01" in done.stdout

    def test_a_missing_one_is_an_error(self, tmp_path):
        done = run_audit("--advisories", tmp_path / "nowhere")
        assert done.returncode == 2
        assert "there is no advisory database" in done.stderr

    def test_leaving_the_check_out_is_said(self, audit: Audit):
        done = audit.run("--advisories", "none")
        assert done.returncode == 0
        assert "known vulnerabilities: NOT CHECKED" in done.stdout
