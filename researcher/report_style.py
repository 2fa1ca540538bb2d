"""The style sheet of a report: system fonts, light and dark, no outside address."""

STYLE = """
:root{--paper:#fbfaf7;--card:#fff;--ink:#1c2430;--soft:#5b6573;--rule:#dfe2e6;--accent:#0b6e69;--track:#e6e9ec;
--s0:#0b6e69;--s1:#b4540a;--s2:#6a4fb3;--s3:#2563a8;--s4:#8a6d00;--s5:#a3314f}
@media (prefers-color-scheme:dark){:root{--paper:#12171d;--card:#1a2129;--ink:#e8ebee;--soft:#a2adb9;--rule:#323c47;
--accent:#4fc4ba;--track:#2b343e;--s0:#4fc4ba;--s1:#f0a05a;--s2:#b09af0;--s3:#78aef0;--s4:#e0c04c;--s5:#f08aa4}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:17px/1.55 system-ui,-apple-system,"Segoe UI","Noto Sans",
"DejaVu Sans",sans-serif}
main{max-width:1040px;margin:0 auto;padding:40px 24px 72px}
h1{font-size:clamp(1.6rem,4.5vw,2.4rem);line-height:1.2;margin:.2em 0 .5em;letter-spacing:-.01em;text-wrap:balance}
h2{font-size:1.28rem;margin:0 0 .8em}h3{font-size:1rem;margin:1.2em 0 .3em}
.lead{font-size:1.12rem;max-width:50em}
section{margin-top:28px;padding:24px 28px;background:var(--card);border:1px solid var(--rule);border-radius:12px}
.badge{display:inline-block;margin:0;padding:2px 12px;border:1px solid var(--accent);border-radius:99px;
color:var(--accent);font-size:.85rem}
.note,small{color:var(--soft);font-size:.88rem}.note{max-width:52em;margin:.9em 0 0}
.tiles{display:grid;grid-template-columns:repeat(3,1fr);gap:14px;margin-top:22px}
.tile{padding:16px 20px;background:var(--card);border:1px solid var(--rule);border-radius:12px}
.tile p{margin:0}.tile:first-child{border-color:var(--accent);box-shadow:inset 0 3px var(--accent)}
.tile .name{font-size:.9rem;color:var(--soft)}
.tile .figure{font-size:2rem;font-weight:650;font-variant-numeric:tabular-nums;line-height:1.3}
.two{display:grid;grid-template-columns:1fr 1fr;gap:0 36px}
ul{margin:.3em 0;padding-left:1.2em}li{margin:.25em 0}
.wide{overflow-x:auto}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:0 24px}
.pair section{min-width:0}.pair section:only-child{grid-column:1/-1}
table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.93rem}
th,td{padding:9px 12px 9px 0;text-align:right;border-bottom:1px solid var(--rule);vertical-align:top}
th{color:var(--soft);font-weight:500;font-size:.82rem;line-height:1.3;vertical-align:bottom}
th:first-child,td:first-child{text-align:left}tbody tr:last-child td{border-bottom:0}
td small{display:block}
details th,details td{text-align:left}summary{cursor:pointer;padding:4px 0}
code{font:.82rem/1.5 ui-monospace,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
figure{margin:0}figure svg{display:block;width:100%;max-width:540px;height:auto;overflow:visible;font-family:inherit}
figure svg *{stroke-linejoin:round;stroke-linecap:butt}
.legend{display:flex;flex-wrap:wrap;gap:4px 22px;list-style:none;padding:0;margin:10px 0 0;font-size:.9rem}
.legend li{display:flex;align-items:center;gap:8px;margin:0}
figure svg.key{width:26px;height:6px;flex:none;stroke-width:3}.dashed{stroke-dasharray:7 5}
@media (max-width:900px){.pair{grid-template-columns:1fr}}
@media (max-width:760px){main{padding:24px 14px 48px}section{padding:18px 16px}.tiles,.two{grid-template-columns:1fr}
.tile{display:grid;grid-template-columns:1fr auto;align-items:center}.tile .note{grid-column:1/-1}
.tile .figure{font-size:1.5rem}
thead{display:none}tr{display:block;padding:10px 0;border-bottom:1px solid var(--rule)}
tbody tr:last-child{border-bottom:0}
td{display:flex;justify-content:space-between;gap:18px;padding:3px 0;border:0;text-align:right}
td:first-child{font-weight:600}td::before{content:attr(data-head);color:var(--soft);font-weight:400;flex:none;
max-width:46%;text-align:left}td span{text-align:right;min-width:0}td small{display:inline}
td:has(>span:empty){display:none}}
@media print{body{background:#fff}section{break-inside:avoid}}
"""
