"""schemathesis invents requests, good and bad, for our ingress: none may cost a 5xx, and each answer has its shape."""
import pathlib, subprocess, sys
from lab import *

HERE = pathlib.Path(__file__).resolve().parent
CHECKS = "not_a_server_error,response_schema_conformance,content_type_conformance,response_headers_conformance"

reset()
tool = pathlib.Path(sys.executable).parent / "schemathesis"
sys.exit(subprocess.run([tool, "run", HERE / "ingress.yaml", "--url", BASE, "-H", f"Authorization: Bearer {KEY}", "--checks", CHECKS,
                         "--phases", "examples,coverage,fuzzing", "--max-examples", "60", "--max-time", "20", "--generation-deterministic", "--no-color",
                         "--warnings", "off", "--suppress-health-check", "all", *sys.argv[1:]], cwd="/tmp").returncode)
