"""docs/MigratingFromDeepSpeed.md against the keys that zopt lists: each row's key exists and is of the class that the guide gives it, and no section of DeepSpeed's config is left out.

    check_migration.py KEYS GUIDE
"""
import re
import sys
from pathlib import Path


def rows(text):
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 2 and re.fullmatch(r"`[\w.*]+`", cells[0]):
            yield cells[0].strip("`"), cells


keys = {key: cells[3] for key, cells in rows(Path(sys.argv[1]).read_text().split("\n\n")[0])}
guide = {key: cells[1] for key, cells in rows(Path(sys.argv[2]).read_text().split("## Key by key")[1])}
problems = [f"{key}: the guide calls it '{said}', zopt '{keys.get(key, 'no key')}'" for key, said in guide.items() if keys.get(key) != said]
sections = {key.split(".")[0] for key in keys if "." in key}
problems += [f"section {section} is not in the guide" for section in sorted(sections) if not any(key.split(".")[0] == section for key in guide)]
problems += ["the guide has no rows"] if len(guide) < 50 else []
print("\n".join(problems))
sys.exit(1 if problems else 0)
