"""The page of the API: Swagger UI, which comes with BentoML, set up for one description.

BentoML's own page loads a tracker from the internet, and has a bar that asks for another description's address. This
one loads nothing from elsewhere, and hides the choice of a server, which Swagger UI offers even where there is one.
"""

from __future__ import annotations

PAGE = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="UTF-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>recloop</title>
    <link rel="icon" href="data:,">
    <link rel="stylesheet" href="./static_content/swagger-ui.css">
    <style>.operation-servers { display: none }</style>
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="./static_content/swagger-ui-bundle.js"></script>
    <script src="./docs.js"></script>
  </body>
</html>
"""
SCRIPT = """SwaggerUIBundle({
  url: "./docs.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
});
"""
