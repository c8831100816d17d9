"""A TCP relay that breaks connections: at once when told, or as the next replies begin, after the request was passed on."""

import contextlib
import socket
import threading


class CuttingRelay:
    def __init__(self, port):
        self._port, self._open, self._lock = port, set(), threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.replies_to_lose = self.connections = 0
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._threads[0].join(5)
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def cut(self):
        """Break whatever is open."""
        with self._lock:
            ours = list(self._open)
        for one in ours:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self.connections += 1
                with self._lock:
                    self._open |= {near, far}
                for source, sink, is_reply in ((near, far, False), (far, near, True)):
                    self._threads.append(threading.Thread(target=self._pump, args=(source, sink, is_reply)))
                    self._threads[-1].start()

    def _pump(self, source, sink, is_reply):
        with contextlib.suppress(OSError):
            while piece := source.recv(65_536):
                if is_reply and self.replies_to_lose > 0:
                    self.replies_to_lose -= 1
                    break
                sink.sendall(piece)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        if is_reply:
            with self._lock:
                self._open -= {source, sink}
            source.close()
            sink.close()
