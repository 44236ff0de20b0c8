"""The network and everything it is built from."""

import os


def import_hub_settings() -> None:
    """Keep odd `HF_…` variables from ending san: open_clip imports huggingface_hub, which stops at them.

    San downloads without that library, and reads the variables itself (`san_cli.weights.hub`); it uploads with it.
    """
    hub = {name: value for name, value in os.environ.items() if name.startswith("HF_")}
    if not hub:
        return
    try:
        import huggingface_hub.constants
    except ImportError:
        pass  # open_clip can do without
    except ValueError:  # HF_ENDPOINT=http://[::1, HF_HUB_ETAG_TIMEOUT=1.5
        for name in hub:
            del os.environ[name]
        try:
            import huggingface_hub.constants  # noqa: F401
        finally:
            os.environ.update(hub)


import_hub_settings()
