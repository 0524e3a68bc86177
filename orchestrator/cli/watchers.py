"""Who is told of a run: the picture on a terminal, plain lines elsewhere, the log."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TextIO

from orchestrator.campaign import Campaign
from orchestrator.config import Settings
from orchestrator.engine import Clock, Watcher
from orchestrator.watch.log import LogWatcher, open_log
from orchestrator.watch.progress import TerminalProgress, progress_for
from orchestrator.watch.suspend import Guest, suspending
from orchestrator.watch.word import WordForWave, can_be_asked


@contextmanager
def watchers_for(
    settings: Settings, stream: TextIO, campaign: Campaign, clock: Clock
) -> Iterator[list[Watcher]]:
    """Open the watchers that the settings ask for.

    A log without a file takes the place of the progress on the same stream when it was asked for,
    as JSON or at the level of debug: two voices on one stream would be read by nobody.
    """
    log = settings.log
    with ExitStack() as stack:
        watchers: list[Watcher] = []
        speaks_here = log.file is None and (log.format == "json" or log.level == "debug")
        if log.file is not None or speaks_here:
            logger = open_log(format_=log.format, file=log.file, level=log.level, stream=stream)
            watchers.append(LogWatcher(logger, run_id=campaign.run_id, plan=campaign.plan))
        if not speaks_here:
            guests: list[Guest] = []
            asks = campaign.policy.confirm_waves and stream.isatty() and can_be_asked(sys.stdin)
            if asks:
                word = stack.enter_context(WordForWave(sys.stdin).asking())
                watchers.append(word)
                guests.append(word)
            progress = progress_for(stream, os.environ, campaign=campaign, clock_=clock, asks=asks)
            stack.enter_context(progress)
            watchers.append(progress)
            if isinstance(progress, TerminalProgress):
                stack.enter_context(suspending(*guests, progress))
        yield watchers
