"""MLflow's own server with another first page: the app that ``hvgym ui`` serves (``mlflow server --app-name hvgym``).

MLflow opens on its side for GenAI with the assistant unfolded, and shows an experiment without metrics, because nothing but
the browser's store says otherwise. So the page writes there, before it starts MLflow's program: model training, the
assistant closed, and for each experiment its view (``bench.views``), once for each version of the view; what a user
changes afterwards stays. An address without a page leads to the one in HVGYM_UI_PAGE. Everything else is MLflow's.
"""

import json
import os
import re
from pathlib import Path

import mlflow.server
from mlflow.server.fastapi_app import app
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from hvgym.bench.views import TAG

PROGRAM = re.compile(r'<script defer="defer" src="([^"]+)"></script>')
"""Where the page starts MLflow's program."""

FIRST = """\
(async () => {
  const once = (key, value) => localStorage.getItem(key) ?? localStorage.setItem(key, JSON.stringify(value));
  const inflated = async (text) => {
    const packed = Uint8Array.from(atob(text.slice("deflate;".length)), (letter) => letter.codePointAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
  };
  try {
    once("mlflow.workflowType_v1", "machine_learning");
    once("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", true);
    const asked = {max_results: 1000, filter: "tags.`" + TAG + "` != ''"};
    const answer = await fetch("ajax-api/2.0/mlflow/experiments/search",
      {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(asked)});
    for (const experiment of (await answer.json()).experiments ?? []) {
      const id = experiment.experiment_id, view = experiment.tags.find((tag) => tag.key === TAG).value;
      if (localStorage.getItem("hvgym.view-" + id) === view) continue;
      const key = "MLflowLocalStorage-1.1-ExperimentPage-" + JSON.stringify([id]) + "-ReactComponentState";
      localStorage.setItem(key, await inflated(view));
      localStorage.setItem("hvgym.view-" + id, view);
    }
  } catch (error) {
    console.warn("hvgym: views are MLflow's own", error);
  }
  if (!location.hash) location.replace(PAGE);
  document.head.append(Object.assign(document.createElement("script"), {src: PROGRAM}));
})();
"""


def page(html: str, target: str) -> str:
    """MLflow's page, its program started by ours; the same where MLflow's looks otherwise than is known here."""

    def ours(found: re.Match[str]) -> str:
        constants = {"TAG": TAG, "PAGE": target or "#/", "PROGRAM": found[1]}
        said = json.dumps(constants).replace("<", "\\u003c")
        return f"<script>const {{TAG, PAGE, PROGRAM}} = {said};\n{FIRST}</script>"

    return PROGRAM.sub(ours, html, count=1)


def _first_page(request: Request) -> HTMLResponse:
    html = (Path(mlflow.server.__file__).parent / "js" / "build" / "index.html").read_text()
    return HTMLResponse(page(html, os.environ.get("HVGYM_UI_PAGE", "")), headers={"Cache-Control": "no-cache"})


app.router.routes.insert(0, Route("/", _first_page))
