"""Line icons, drawn on a 24 x 24 grid. Always beside a text: an icon alone says nothing to a screen reader."""

from markupsafe import Markup

_PATHS = {
    "overview": "M4 13h6V4H4zM14 20h6v-9h-6zM4 20h6v-3H4zM14 7h6V4h-6z",
    "hosts": "M4 4h16v7H4zM4 13h16v7H4zM8 7.5h.01M8 16.5h.01",
    "nodes": "M7 7h10v10H7zM10 3v4M14 3v4M10 17v4M14 17v4M3 10h4M3 14h4M17 10h4M17 14h4",
    "models": "M12 3l8 4.5v9L12 21l-8-4.5v-9zM12 12l8-4.5M12 12v9M12 12L4 7.5",
    "jobs": "M4 5h16v14H4zM8 10l2.5 2L8 14M13 15h4",
    "playground": "M4 5h16v11H10l-4 4v-4H4zM8 9h8M8 12h5",
    "check": "M4 12.5l5 5L20 6.5",
    "ready": "M12 3a9 9 0 100 18 9 9 0 000-18zM8 12.5l2.7 2.7L16 9.5",
    "warning": "M12 4l9 16H3zM12 10v4.5M12 17.2h.01",
    "error": "M12 3a9 9 0 100 18 9 9 0 000-18zM9 9l6 6M15 9l-6 6",
    "clock": "M12 3a9 9 0 100 18 9 9 0 000-18zM12 7.5V12l3 2",
    "pause": "M12 3a9 9 0 100 18 9 9 0 000-18zM10 9v6M14 9v6",
    "offline": "M12 3v8M7 6.5a7.5 7.5 0 1010 0",
    "download": "M12 4v11M7.5 11L12 15.5 16.5 11M5 20h14",
    "busy": "M12 3a9 9 0 109 9",
    "none": "M12 3a9 9 0 100 18 9 9 0 000-18z",
    "stop": "M7 7h10v10H7z",
    "plus": "M12 5v14M5 12h14",
    "trash": "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
    "retry": "M20 11a8 8 0 10-2.3 6M20 5v6h-6",
    "play": "M7 4.5l12 7.5-12 7.5z",
    "moon": "M20 14.5A8 8 0 119.5 4a6.5 6.5 0 0010.5 10.5z",
    "language": "M12 3a9 9 0 100 18 9 9 0 000-18zM3 12h18M12 3c3 3 3 15 0 18M12 3c-3 3-3 15 0 18",
    "user": "M12 4a4 4 0 100 8 4 4 0 000-8zM4.5 20c1-4 4-5.5 7.5-5.5s6.5 1.5 7.5 5.5",
    "logout": "M10 4H5v16h5M14 8l4 4-4 4M18 12H9",
    "back": "M19 12H5M11 6l-6 6 6 6",
    "close": "M6 6l12 12M18 6L6 18",
    "pin": "M9 4h6l-1 6 3 3H7l3-3zM12 13v7",
    "keys": "M14.5 4a5.5 5.5 0 00-5.2 7.3L4 16.5V20h3.5v-2.5H10V15l1.6-1.3A5.5 5.5 0 1014.5 4zM16 8h.01",
    "settings": "M4 7h9M17 7h3M4 17h3M11 17h9M15 5a2 2 0 100 4 2 2 0 000-4zM9 15a2 2 0 100 4 2 2 0 000-4z",
    "copy": "M9 9h11v11H9zM15 9V4H4v11h5",
    "shield": "M12 3l7.5 3v5.5c0 4.5-3 7.6-7.5 9.5-4.5-1.9-7.5-5-7.5-9.5V6z",
    "heart": "M12 20s-7.5-4.6-7.5-10A4.2 4.2 0 0112 7.4 4.2 4.2 0 0119.5 10c0 5.4-7.5 10-7.5 10z",
}


def icon(name: str, *, spin: bool = False) -> Markup:
    """Return an icon as inline SVG, hidden from screen readers. Raises KeyError for an unknown name."""
    classes = "icon spin" if spin else "icon"
    return Markup('<svg class="{}" viewBox="0 0 24 24" aria-hidden="true" focusable="false"><path d="{}"/></svg>').format(
        classes, _PATHS[name]
    )
