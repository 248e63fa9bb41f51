"""The report as one HTML file: the metrics, the plots, and all that a browser needs to draw them, without a network."""

from __future__ import annotations

import json
from html import escape
from string import Template

import duckdb

from orchestration.publishing.manifest import Publication
from orchestration.queries.metrics import metrics
from orchestration.visualization.report_charts import PLOTS

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Marquee: $edition</title>
<style>
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 1rem; font: 16px/1.45 system-ui, sans-serif; color: #1f2933; }
h1 { margin: .5rem 0 0; font-size: 1.7rem; }
h2 { margin: 0; font-size: 1.1rem; }
p { margin: .2rem 0 .6rem; color: #52606d; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .6rem; margin: 1rem 0; }
dl > div { border: 1px solid #e4e7eb; border-radius: .5rem; padding: .6rem .7rem; }
dt { font-size: .85rem; color: #52606d; }
dd { margin: 0; font-size: 1.35rem; font-weight: 600; }
dd + dd { font-size: .75rem; font-weight: 400; color: #7b8794; line-height: 1.3; }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1.4rem; }
section { min-width: 0; }
.plot { width: 100%; min-height: 200px; }
footer { margin: 1.5rem 0; font-size: .8rem; color: #7b8794; }
</style>
</head>
<body>
<h1>Marquee: $edition</h1>
<p>Publication $version. Streaming ratings are left out unless a figure says otherwise.</p>
<dl>
$figures
</dl>
<main>
$sections
</main>
<footer>Every figure is defined once, in the data dictionary. IMDb data: Information courtesy of IMDb
(https://www.imdb.com). Used with permission. MovieLens data: GroupLens Research, University of Minnesota.</footer>
<script>$library</script>
<script type="application/json" id="specs">$specs</script>
<script>
const specs = JSON.parse(document.getElementById("specs").textContent);
const drawn = Object.entries(specs).map(([name, spec]) =>
  vegaEmbed("#" + name, spec, {actions: false, renderer: "svg"}));
Promise.all(drawn).then(
  () => { document.body.dataset.drawn = drawn.length; },
  error => { document.body.dataset.failed = String(error); });
</script>
</body>
</html>
""")


def report(con: duckdb.DuckDBPyConnection, publication: Publication) -> str:
    """Return the page of a published copy. A plot without rows (there are no streaming catalogs) is left out."""
    import vl_convert

    # Without a snippet it is the whole library; its stub does not know that.
    library: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    found = dict(con.execute("SELECT metric, value::DOUBLE FROM marts.metrics WHERE month IS NULL").fetchall())
    figures = "\n".join(
        f'<div id="metric-{metric.name}"><dt>{escape(metric.label)}</dt>'
        f"<dd>{escape(metric.spoken(found[metric.name]))}</dd><dd>{escape(metric.description)}</dd></div>"
        for metric in metrics()
        if metric.name in found
    )
    specs, sections = {}, []
    for plot in PLOTS:
        frame = plot.rows(con)
        if frame.is_empty():
            continue
        specs[plot.name] = plot.spec(frame)
        sections.append(
            f'<section><h2>{escape(plot.title)}</h2><p>{escape(plot.says)}</p><div class="plot" id="{plot.name}"></div>'
            "</section>"
        )
    return _PAGE.substitute(
        edition=escape(publication.edition),
        version=publication.version,
        figures=figures,
        sections="\n".join(sections),
        # A closing tag inside a script would end it.
        library=library.replace("</script", "<\\/script"),
        specs=json.dumps(specs).replace("</", "<\\/"),
    )
