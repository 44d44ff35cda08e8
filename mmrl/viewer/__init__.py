"""The rollout viewer: `mmrl view` reads run directories and shows them in a browser.

    serve.py        the command: a socket, a token, a browser
    app.py          the routes; what they answer is typed in `answers.py`
    safety.py       who may ask (Host, Origin, token) and what a browser may do with the answer
    store.py        one DuckDB for all runs, memory bounded, an index per run in the cache folder
    ingest.py       Parquet files into an index; `prompts.py` reads the chats
    filters.py      what is asked for, as SQL; `queries.py` asks
    runs.py         config, metrics and events of runs; `lines.py` follows a growing JSONL file
    groups.py       one group in full, `predictions.py` what its rows predicted
    media.py        images, videos and frames
    datasets.py     a data set shown by the same means
    annotations.py  stars and notes, the only thing that is ever written into a run
    export.py       a selection as JSONL or, with `static.py`, as a folder that opens from disk

Imports no torch. The page is in `web/`; it asks this server only.
"""
