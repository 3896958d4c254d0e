#!/usr/bin/env bash
# watchfiles 1.3.0 and watchdog 7.1.0 (PyPI), on a Secret volume as the kubelet updates it: a symbolic link that is replaced.
#
# Guess:  a watch of the mounted file reports each update.
# Seen:   watchfiles reports the first of three updates, as "modified" and "deleted", although the file exists with new content at all
#         times. It reports nothing of the later ones. watchdog reports none of the three. A watch of the folder reports each
#         update, but watchdog never with the name of the file.
#
#   watchfiles file    ['modified', 'deleted'] [] []
#   watchdog   file    [] [] []
#   watchfiles folder  updates: 3, watchdog folder updates: 3, of the file: 0
#
# So:     watch the folder and compare the content, or read the file for each request. Linux only (inotify).
# Run on 2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check watchfiles==1.3.0 watchdog==7.1.0
cat > "$work/run.py" <<'PY'
import os, pathlib, shutil, tempfile, threading, time

import watchfiles
from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer


def swap(mount, content):
    """Replaces the content as the kubelet does."""
    folder = f"..{time.time_ns()}"
    (mount / folder).mkdir()
    (mount / folder / "access_token").write_text(content)
    old = os.readlink(mount / "..data") if (mount / "..data").is_symlink() else None
    os.symlink(folder, mount / "..data_tmp")
    os.rename(mount / "..data_tmp", mount / "..data")
    if old is None:
        os.symlink("..data/access_token", mount / "access_token")
    else:
        shutil.rmtree(mount / old)


def by_watchfiles(path, seen):
    stop = threading.Event()

    def watch():
        for changes in watchfiles.watch(path, stop_event=stop):
            seen.extend((kind.name, os.path.basename(name)) for kind, name in changes)

    threading.Thread(target=watch, daemon=True).start()
    return stop.set


def by_watchdog(path, seen):
    class Handler(FileSystemEventHandler):
        def on_any_event(self, event):
            seen.append((event.event_type, os.path.basename(event.src_path)))

    observer = Observer()
    observer.schedule(Handler(), str(path))
    observer.start()
    return observer.stop


def updates(start, of_file):
    """Returns what is reported for each of three updates."""
    mount = pathlib.Path(tempfile.mkdtemp(dir=os.environ["WORK"]))
    swap(mount, "token 0")
    seen = []
    stop = start(mount / "access_token" if of_file else mount, seen)
    time.sleep(1)
    reported = []
    for number in range(1, 4):
        seen.clear()
        swap(mount, f"token {number}")
        assert (mount / "access_token").read_text() == f"token {number}"
        time.sleep(2)
        reported.append(list(seen))
    stop()
    return reported


for name, start in (("watchfiles", by_watchfiles), ("watchdog", by_watchdog)):
    reports = updates(start, True)
    print(name, "file", *reports)
    first, *later = reports
    assert later == [[], []], later
    if name == "watchfiles":
        assert "deleted" in [kind for kind, _ in first], first
    else:
        assert first == [], first
    reports = updates(start, False)
    print(name, "folder, updates:", sum(map(bool, reports)))
    assert all(reports), reports
    if name == "watchdog":
        assert not [event for report in reports for event in report if event[1] == "access_token"], reports
PY
WORK=$work "$work/venv/bin/python" "$work/run.py"
echo 'as found'
