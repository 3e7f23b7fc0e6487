"""A server as a process with its children: started, killed, paused; its data in a folder of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

import psutil
from support.servers import free_port, need_servers, until

_PREFIX = "exp_pool_server_"


class Server(ABC):
    """One server on a free port of loopback. ``with`` starts it and in the end removes it and its data.

    Every method returns once what it says is so.
    """

    run_as = {}  # what subprocess.Popen is told about the user
    bus = ()  # ports beside its own, as distances

    def __init__(self):
        need_servers()
        self.port = free_port(*self.bus)
        self.folder = new_folder()
        self.log = self.folder / "log"
        self._process = None

    @property
    @abstractmethod
    def url(self): ...

    @abstractmethod
    def command(self):
        """What starts it in the foreground."""

    @abstractmethod
    def ping(self):
        """A real connection, and a question answered on it; raises otherwise."""

    def prepare(self):
        """What its data need before the first start."""

    def start(self):
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in a terminal is for the tests alone
                **self.run_as,
            )
        self.wait()

    def wait(self, seconds=30.0):
        """Until it answers."""
        try:
            until(lambda: self.ping() or True if self.is_running else "dead", f"{self.url} answers", seconds)
            if not self.is_running:
                raise RuntimeError(f"{self.url} died with exit status {self._process.poll()}")
        except Exception as error:
            error.add_note(self.log.read_text(errors="replace")[-3000:])
            raise

    @property
    def is_running(self):
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self):
        """Of the process that starts the others."""
        return self._process.pid

    def kill(self):
        """SIGKILL for all its processes, as if the power had gone; its data stay."""
        if self._process is None:
            return
        end(self._process.pid)
        self._process.wait()
        self._process = None

    def restart(self):
        """On the same data and port, killed before if it still runs."""
        self.kill()
        self.start()

    def pause(self):
        """SIGSTOP for all its processes: connections stay, and nothing answers."""
        for process in _signal_all(self._process.pid, signal.SIGSTOP):
            until(lambda process=process: _is_stopped(process), f"{process} is stopped")

    def resume(self):
        _signal_all(self._process.pid, signal.SIGCONT)
        self.wait()

    def mend(self):
        """It runs and answers again, whatever a test did to it."""
        if self.is_running:
            self.resume()
        else:
            self.restart()

    def stop(self):
        """For good: its data go, too."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()


def run(command, **how):
    """A command that prepares data; its output is in the error if it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **how,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout[-3000:]}")


def end(pid):
    """SIGKILL for a process and its children, and waits until they are gone."""
    for process in (processes := _signal_all(pid, signal.SIGKILL)):
        until(lambda process=process: _is_gone(process), f"{process} is gone")
    return processes


def _signal_all(pid, number):
    """To the parent first: stopped or dead it makes no more children. PostgreSQL's leave its process group, so they
    are told one by one.
    """
    try:
        parent = psutil.Process(pid)
        if number != signal.SIGCONT:
            parent.suspend()
            until(lambda: _is_stopped(parent), f"{parent} is stopped")
        processes = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    return processes


def _is_stopped(process):
    return _is_gone(process) or process.status() == psutil.STATUS_STOPPED


def _is_gone(process):
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE  # pid 1 may be slow to bury them
    except psutil.NoSuchProcess:
        return True


def new_folder():
    """A folder for one server, with its owner's pid in its name; those of dead owners go, and their servers first."""
    root = Path(tempfile.gettempdir())
    root = root if open_to_all(root) else Path("/tmp")  # a server may run as another user
    for folder in root.glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("_")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            _sweep(folder)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}_", dir=root))


def _sweep(folder):
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, FileNotFoundError):
            if Path(process.cwd()).is_relative_to(folder):
                end(process.pid)
    shutil.rmtree(folder, ignore_errors=True)


def open_to_all(path):
    """Whether every user can get there."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))
