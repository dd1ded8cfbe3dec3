"""Writes stack/kafka.lock.json: every file a Kafka broker runs from, with size and SHA-256.

For developers, with Maven on PATH: `python scripts/lock_kafka.py 4.4.0`. Maven resolves the broker's run-time
dependencies; nothing of this runs on a user's machine, which fetches exactly what the lock lists.
"""

import argparse
import hashlib
import json
import subprocess
import tempfile
from pathlib import Path

LOCK = Path(__file__).parent.parent / "stack" / "kafka.lock.json"
# What the broker logs through: plain lines on stderr, their level set by a system property.
SLF4J_SIMPLE = "1.7.36"
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>lock</groupId><artifactId>lock</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{kafka}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>{slf4j}</version></dependency>
  </dependencies>
</project>
"""


def resolve(kafka: str, into: Path) -> list[Path]:
    """Copies the run-time jars of this Kafka below `into`, laid out as in a Maven repository."""
    (into / "pom.xml").write_text(POM.format(kafka=kafka, slf4j=SLF4J_SIMPLE), encoding="utf-8")
    subprocess.run(
        [
            *("mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies"),
            *("-DincludeScope=runtime", "-Dmdep.useRepositoryLayout=true", "-DoutputDirectory=jars"),
        ],
        cwd=into,
        check=True,
    )
    return sorted((into / "jars").rglob("*.jar"))


def main() -> None:
    """Resolves, hashes, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="of org.apache.kafka:kafka_2.13")
    version = parser.parse_args().version
    with tempfile.TemporaryDirectory() as scratch:
        into = Path(scratch)
        jars = resolve(version, into)
        artefacts = [
            {
                "path": jar.relative_to(into / "jars").as_posix(),
                "size": jar.stat().st_size,
                "sha256": hashlib.sha256(jar.read_bytes()).hexdigest(),
            }
            for jar in jars
        ]
        total = sum(jar.stat().st_size for jar in jars)
    LOCK.write_text(json.dumps({"kafka": version, "artefacts": artefacts}, indent=1) + "\n", encoding="utf-8")
    print(f"{LOCK}: {len(artefacts)} artefacts, {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
