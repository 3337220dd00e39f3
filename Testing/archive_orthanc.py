"""Orthanc, a real archive, with a temporary configuration on loopback, for the tests of archives."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from archive_cases import ARCHIVE, TITLE, free_port, study_uid, wait_for

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ORTHANC = shutil.which("Orthanc")
AVAILABLE = bool(ORTHANC) and PLUGIN.exists()
NAME, WORD = "tester", "a-word-for-the-test"


class Orthanc:
    """Orthanc with a configuration and a database of its own, on free ports."""

    def __init__(self, folder: Path, listener_port: int):
        folder.mkdir(parents=True)
        self.web, self.dicom = free_port(), free_port()
        modality = {"AET": TITLE, "Host": "127.0.0.1", "Port": listener_port}
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [str(PLUGIN)],
            "HttpPort": self.web,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {NAME: WORD},
            "DicomAet": ARCHIVE,
            "DicomPort": self.dicom,
            "DicomAlwaysAllowStore": True,
            "DicomModalities": {"vfq": modality},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self._log = (folder / "log").open("w")
        self._folder = folder
        self.start()

    def start(self) -> None:
        command = [str(ORTHANC), str(self._folder / "orthanc.json")]
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        wait_for(self._answers, (self._folder / "log").read_text)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web}/dicom-web"

    def ask(self, path: str, body: Any = None) -> Any:
        """Call the REST interface of Orthanc."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.web}{path}")
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{NAME}:{WORD}".encode()).decode())
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(request, data, timeout=120) as answer:
            return answer.read() if path.endswith("/file") else json.loads(answer.read())

    def instances(self, number: int, kind: str) -> list[bytes]:
        """The DICOM files of a study with this modality."""
        query = {"StudyInstanceUID": study_uid(number), "Modality": kind}
        found = self.ask("/tools/find", {"Level": "Instance", "Query": query})
        return [self.ask(f"/instances/{one}/file") for one in found]

    def forward(self, number: int) -> None:
        """Send the CT of a study to the listener."""
        query = {"StudyInstanceUID": study_uid(number), "Modality": "CT"}
        (series, *_) = self.ask("/tools/find", {"Level": "Series", "Query": query})
        self.ask("/modalities/vfq/store", series)

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self._folder / "log").read_text()
        try:
            return bool(self.ask("/system"))
        except OSError:
            return False


def valid(data: bytes, folder: Path) -> bool:
    """True if dciodvfy finds no error, except one about an inherited Laterality."""
    path = folder / "one.dcm"
    path.write_bytes(data)
    done = subprocess.run([Path(sys.executable).with_name("dciodvfy"), path], capture_output=True, text=True)
    errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    return not [line for line in errors if "Laterality" not in line]
