"""What we saw: channels stream to Zarr while a run goes on, and xarray alone opens what they left.

Nothing here knows an engine, so that any tool can open a trace.
"""

from __future__ import annotations

from pcsim.trace.channel import Channel, forecast, shape_key
from pcsim.trace.writer import TraceWriter

__all__ = ["Channel", "TraceWriter", "forecast", "shape_key"]
