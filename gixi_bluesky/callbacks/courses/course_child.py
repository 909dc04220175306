"""The process that measures the courses of one run."""

from __future__ import annotations

from multiprocessing.connection import Connection

from gixi_bluesky.callbacks.courses.course_job import CourseJob
from gixi_bluesky.callbacks.courses.messages import CourseFiles, Work
from gixi_bluesky.processes.child import portable_error

__all__ = ["serve"]


def serve(parent: Connection) -> None:
    """Answer each Work with its Progress or with the error it raised, until the parent ends."""
    try:
        files: CourseFiles = parent.recv()
        job = CourseJob(files)
        parent.send("ready")
        while True:
            asked: Work = parent.recv()
            try:
                answer: object = job.work(asked)
            except Exception as error:
                parent.send(portable_error(error, "courses cannot be measured"))
                return  # the next process starts from the files
            parent.send(answer)
    except (EOFError, ConnectionError):
        return  # the parent ended
