"""The page that a comparison is rendered into: a Jinja2 template, to be used with autoescape on."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 style-src 'unsafe-inline'; script-src 'unsafe-inline' data:">
<title>{{ title }} – worldplan</title>
<style>{{ style | safe }}</style>
<style>
:root { color-scheme: light; }
body { margin: 0 auto; padding: 1.5rem clamp(.8rem, 3vw, 2.5rem) 4rem; max-width: 100rem; color: #1d2329;
  background: #fff; font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: .95rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
p { max-width: 46rem; margin: .4rem 0; }
.muted, td small { color: #5c6670; }
.scroll { overflow-x: auto; }
table.sortable { border-collapse: collapse; width: 100%; font-size: .82rem; font-variant-numeric: tabular-nums; }
table.sortable.display > * > tr > * { text-align: right; padding: .35rem; }
table.sortable th { line-height: 1.25; vertical-align: bottom; border-bottom: 2px solid #1d2329; }
table.sortable td { vertical-align: top; border-bottom: 1px solid #e3e6e9; }
table.sortable td small { display: block; font-size: .7rem; white-space: nowrap; }
table.sortable.display > * > tr > .name { text-align: left; min-width: 12rem; overflow-wrap: anywhere; }
table.sortable .name small { white-space: normal; }
table.dataTable th div.dt-column-header { justify-content: flex-end; gap: 0; }
table.dataTable th.name div.dt-column-header { justify-content: flex-start; }
table.dataTable th .dt-column-title { flex-grow: 0; }
tr.failed td { background: #fdf1f0; }
tr.failed td small { color: #a3211b; }
tr.baseline td { background: #f5f6f7; color: #5c6670; }
.cards { display: grid; gap: 1.4rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 34rem), 1fr)); }
figure { margin: 0; break-inside: avoid; }
img { max-width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; font-size: .9rem; }
dt { font-weight: 600; }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
@media print {
  @page { size: landscape; margin: 12mm; }
  body { padding: 0; font-size: 10pt; }
  .scroll, .scroll * { overflow: visible !important; }
  table.sortable { font-size: 6pt; }
  table.sortable.display > * > tr > * { padding: 2pt 2pt; }
  table.sortable.display > * > tr > .name { min-width: 6rem; }
  .dt-column-order, .hint { display: none; }
  .film { display: none; }
}
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ summary }}</p>
<p class="muted">{{ day }}. Below the numbers: 95% intervals.
{{ failed ~ " failed; the reasons stand below their names." if failed }}
<span class="hint">Click a column's head to sort.</span></p>

<div class="scroll">
<table class="sortable display">
<thead><tr>
{% for column in columns %}
<th{% if column.head == "Encoder" %} class="name"{% endif %} title="{{ column.meaning }}">{{ column.head }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for line in lines %}
<tr class="{{ line.state }}">
{% for cell in line.cells %}
<td data-order="{{ cell.order }}">{{ cell.text }}
{%- if cell.interval %}<small>{{ cell.interval }}</small>{% endif %}</td>
{% if loop.first %}
<td class="name" data-order="{{ line.name }}">{{ line.name }}
{%- for note in line.notes %}<small>{{ note }}</small>{% endfor %}</td>
{% endif %}
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% for remark in remarks %}
<p class="muted">{{ remark }}</p>
{% endfor %}

{% if chart %}
<h2>Control cost and identifiability</h2>
<figure><img src="{{ chart }}" alt="Mean cost ratio against one minus R squared, a dot for each encoder"></figure>
{% endif %}
{% if cards %}
<h2>Latents and plans</h2>
<p>Each latent on the same frames, coloured by the true angle of shoulder and of wrist; and the same goals, planned in
each latent and drawn in joint space (dot: start; star: goal; broad line: the controller that sees the true state).</p>
<div class="cards">
{% for name, image in cards %}
<figure><h3>{{ name }}</h3><img src="{{ image }}" alt="Latent and joint paths of {{ name }}"></figure>
{% endfor %}
</div>
{% endif %}
{% if film %}
<section class="film">
<h2>At work</h2>
<p>The same goals in real time: the controller that sees the true state, then the first, the middle and the last
encoder of the ranking. The goal image shines through.</p>
<img src="{{ film }}" alt="Film of the arm on its way to three goals">
</section>
{% endif %}

{% if plans %}
<h2>Open loop</h2>
<p>Plans between start and goal in the latent, decoded to joint paths by the nearest of a library of frames whose angles
are known, as published; without arm and feedback. The rows of the true angles are the floor that decoding with the same
library sets. What open loop cannot see: both plans are preserved by every affine map, so that a rotated and a sheared
latent differ in their nearest neighbours only, and not at all in the limit of a large library. It tells a bent latent
from a straight one; the table above tells whether one can control with it.</p>
<div class="scroll">
<table class="sortable display">
<thead><tr>
{% for column in plan_columns %}
<th{% if loop.index < 3 %} class="name"{% endif %} title="{{ column.meaning }}">{{ column.head }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for name, cells in plans %}
<tr>
<td class="name" data-order="{{ name }}">{{ name }}</td>
{% for cell in cells %}
<td{% if loop.first %} class="name"{% endif %} data-order="{{ cell.order }}">{{ cell.text }}
{%- if cell.interval %}<small>{{ cell.interval }}</small>{% endif %}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
<dl>{% for column in plan_columns %}<dt>{{ column.head }}</dt><dd>{{ column.meaning }}</dd>{% endfor %}</dl>
{% endif %}

<h2>What the columns mean</h2>
<dl>{% for column in columns %}<dt>{{ column.head }}</dt><dd>{{ column.meaning }}</dd>{% endfor %}</dl>

<h2>How to get these numbers</h2>
<dl>{% for name, value in facts %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}</dl>

<script type="module">
import DataTable from "{{ library }}";
const last = (a, b, sign) => (a === "") - (b === "") || sign * (a - b);  // what has no number comes last either way
DataTable.type("number", { order: { asc: (a, b) => last(a, b, 1), desc: (a, b) => last(a, b, -1) } });
for (const table of document.querySelectorAll("table.sortable"))
  new DataTable(table, { paging: false, searching: false, info: false, autoWidth: false, order: [],
    columnDefs: [{ targets: "name", type: "string" }, { targets: "_all", type: "number" }] });
</script>
</body>
</html>
"""
