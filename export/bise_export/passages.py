"""More texts to calibrate on, for whoever needs to know how a projection's inputs go together, not only how large.

Of the kinds a device is asked for, in several languages, and apart from those that accuracy is verified on. Changing a
text changes what is rounded: add one rather than edit one.
"""

from __future__ import annotations

PASSAGES = (
    # Nature.
    "A glacier is not a block but a slow river. Snow that falls on its upper part is pressed to ice within some "
    "decades, flows downhill by a few centimetres a day, and melts at the tongue. Where the ground is steep the "
    "surface breaks into crevasses; where it is flat, meltwater gathers in blue lakes. If more melts below than "
    "falls above, the tongue draws back and leaves walls of rubble behind, from which one can tell how large it was "
    "a thousand years ago.",
    # History.
    "In 1854 a physician marked every death by cholera on a map of a London district. The marks lay close around one "
    "pump in Broad Street. He had its handle taken off, and although the epidemic was already fading, the map "
    "convinced more people than any argument had: the disease came with water, not with bad air. Thirty years later "
    "the bacterium was seen under a microscope.",
    # Technical advice.
    "To replace the pump, close both valves and disconnect the power first. Put a bucket under the lower coupling, "
    "since about half a litre stays in the housing. Loosen the four bolts crosswise, pull the motor straight back "
    "and check the seal: if it is brittle, use the one from the kit. Tighten the bolts to 9 Nm, open the lower "
    "valve, let the air out at the screw on top, and only then switch the power on again.",
    # A story.
    "Old Marta had promised the boat to no one, which is why all four of her sons believed it was theirs. The eldest "
    "had painted it each spring. The second had paid for the engine. The third had nearly drowned in it, and felt "
    "that this counted for something. The youngest had never asked, and on the morning after the funeral he was the "
    "only one who went down to the harbour to see whether it needed bailing out.",
    # A conversation about a task.
    "<|im_start|>system\nYou are a helpful assistant that answers briefly.<|im_end|>\n<|im_start|>user\nCan you "
    "write a short message to my landlord? The heating has been off since Friday.<|im_end|>\n<|im_start|>assistant\n"
    "Dear Mr. Keller,\n\nThe heating in our flat (second floor, left) has not worked since Friday. It was 14 degrees "
    "in the kitchen this morning. Could you please send somebody today, and let us know when they will come?\n\nKind "
    "regards,\nJana Brandt<|im_end|>\n<|im_start|>user\nMake it more friendly.<|im_end|>\n<|im_start|>assistant\n",
    # A conversation about a fact.
    "<|im_start|>user\nWhy is the sky blue but the sunset red?<|im_end|>\n<|im_start|>assistant\nAir scatters short "
    "waves much more than long ones. From the sun high above, light takes a short way through the air, and the blue "
    "part reaches us from all directions. In the evening the way is many times longer: most of the blue is scattered "
    "out of it before it arrives, and what remains is orange and red.<|im_end|>\n<|im_start|>user\nThen why isn't "
    "the sky violet?<|im_end|>\n<|im_start|>assistant\nThe sun gives less violet than blue, and our eyes see it less "
    "well.",
    # Arithmetic, worked out.
    "A train leaves at 9:40 and travels 210 km at 84 km/h. The trip takes 210 / 84 = 2.5 hours, so it arrives at "
    "12:10. A second train takes the same line at 105 km/h and needs 210 / 105 = 2 hours. To arrive at the same time "
    "it has to leave at 10:10. If it stops twice for 6 minutes, it must leave 12 minutes earlier, at 9:58.",
    # Mathematics.
    "Let $f(x) = x^3 - 3x + 1$. Then $f'(x) = 3x^2 - 3$ vanishes at $x = \\pm 1$, where $f(-1) = 3$ and $f(1) = -1$. "
    "Since $f$ changes its sign between $-2$ and $-1$, between $0$ and $1$, and between $1$ and $2$, it has three "
    "real roots. None of them is rational: by the rational root theorem only $\\pm 1$ could be, and neither is a "
    "root.",
    # Python.
    "import csv\nfrom collections import defaultdict\nfrom pathlib import Path\n\n\ndef totals(path: Path) -> "
    'dict[str, float]:\n    """The sum of each customer\'s orders."""\n    found: dict[str, float] = '
    'defaultdict(float)\n    with path.open(newline="") as file:\n        for row in '
    'csv.DictReader(file):\n            try:\n                found[row["customer"]] += '
    'float(row["amount"])\n            except ValueError:\n                print(f"skipped {row!r}")\n    return '
    'dict(found)\n\n\nif __name__ == "__main__":\n    for name, amount in '
    'sorted(totals(Path("orders.csv")).items()):\n        print(f"{name:20} {amount:10.2f}")\n',
    # JavaScript and a page.
    'const list = document.querySelector("#tasks");\n\nasync function refresh() {\n  const answer = await '
    'fetch("/api/tasks?open=true");\n  if (!answer.ok) {\n    throw new Error(`status ${answer.status}`);\n  }\n  '
    "const tasks = await answer.json();\n  list.replaceChildren(...tasks.map((task) => {\n    const item = "
    'document.createElement("li");\n    item.textContent = task.title;\n    item.classList.toggle("done", '
    "task.done);\n    return item;\n  }));\n}\n\nsetInterval(() => refresh().catch(console.error), 5000);\n",
    # C.
    "#include <stdio.h>\n#include <stdlib.h>\n\nstruct node { int key; struct node *left, *right; };\n\nstatic "
    "struct node *insert(struct node *root, int key) {\n    if (!root) {\n        root = calloc(1, sizeof "
    '*root);\n        if (!root) { perror("calloc"); exit(1); }\n        root->key = key;\n        return root;\n    '
    "}\n    if (key < root->key) root->left = insert(root->left, key);\n    else if (key > root->key) root->right = "
    "insert(root->right, key);\n    return root;\n}\n",
    # A shell and what it says.
    "$ df -h /var\nFilesystem      Size  Used Avail Use% Mounted on\n/dev/sda2        49G   45G  1.6G  97% /var\n$ "
    "sudo du -sh /var/* | sort -h | tail -n 3\n312M\t/var/cache\n1.9G\t/var/lib\n41G\t/var/log\n$ sudo journalctl "
    "--vacuum-size=500M\nDeleted archived journal /var/log/journal/system@0006.journal (128.0M).\nVacuuming done, "
    "freed 38.2G of archived journals.\n",
    # A log.
    "2024-02-11 06:14:03 INFO  gateway[812]: connected to broker 10.0.4.2:8883\n2024-02-11 06:14:03 INFO  "
    "gateway[812]: subscribed to plant/+/temperature\n2024-02-11 06:19:47 WARN  gateway[812]: no message from sensor "
    "17 for 300 s\n2024-02-11 06:20:02 ERROR gateway[812]: write failed: connection reset by peer\n2024-02-11 "
    "06:20:05 INFO  gateway[812]: retrying in 4 s (attempt 2 of 5)\n",
    # Data.
    '{"order": 48213, "customer": {"name": "Aylin Demir", "city": "Izmir", "since": 2017}, "items": [{"sku": '
    '"A-104", "title": "desk lamp", "quantity": 2, "price": 34.5}, {"sku": "C-220", "title": "cable, 3 m", '
    '"quantity": 1, "price": 7.9}], "paid": true, "shipped": null, "notes": ["call before delivery", "no '
    'signature"]}\n',
    # A configuration.
    "server:\n  listen: 0.0.0.0:8443\n  workers: 4\n  tls:\n    certificate: /etc/app/server.crt\n    key: "
    "/etc/app/server.key\nstorage:\n  path: /var/lib/app\n  keep_days: 30\nlogging:\n  level: info\n  # One of text "
    "and json.\n  format: json\nlimits:\n  requests_per_minute: 600\n  body_bytes: 1048576\n",
    # A table.
    "| month | visitors | sold | share |\n|---|---:|---:|---:|\n| January | 1,204 | 96 | 8.0 % |\n| February | 1,350 "
    "| 121 | 9.0 % |\n| March | 1,118 | 78 | 7.0 % |\n\nFebruary was the best month, although it is the shortest: "
    "the trade fair brought about 200 visitors more than usual, and every sixth of them bought something.",
    # French.
    "Chaque matin, la boulangère ouvre sa porte à six heures et demie. Les premiers clients sont toujours les mêmes "
    ": le facteur, deux infirmières qui rentrent de leur garde, et un vieux monsieur qui n'achète qu'une "
    "demi-baguette. Il dit qu'une baguette entière serait trop pour lui, mais tout le monde sait qu'il revient à "
    "midi pour l'autre moitié.",
    # German.
    "Wer die Anlage zum ersten Mal einschaltet, sollte vorher prüfen, ob alle Ventile geschlossen sind. Danach wird "
    "der Druck langsam erhöht, bis die grüne Lampe leuchtet. Bleibt sie dunkel, liegt es meist an der Sicherung im "
    "unteren Kasten; nur selten ist der Sensor selbst defekt. Im Zweifel hilft ein Blick in das Handbuch, Kapitel "
    "sieben.",
    # Spanish.
    "Cuando llegamos al pueblo ya era de noche y no había ni una luz encendida. El autobús nos dejó en la plaza, "
    "junto a una fuente seca, y se marchó enseguida. Mi hermana propuso llamar a la primera puerta, pero yo preferí "
    "esperar: alguien, pensé, tenía que haber oído el motor.",
    # Italian and Portuguese.
    "Per fare un buon sugo non servono molti ingredienti: pomodori maturi, un po' d'aglio, olio e basilico. Il "
    "segreto è la pazienza, perché deve cuocere piano per almeno un'ora. O mercado da cidade abre cedo, e quem chega "
    "depois das dez já não encontra peixe fresco nem as laranjas que vêm do sul.",
    # A letter of opinion.
    "I read with interest that the council wants to close the library on Saturdays. The saving is said to be 18,000 "
    "a year. May I point out that Saturday is the only day on which those who work can go there at all? A library "
    "that is open only while everybody is somewhere else costs less, certainly; a library that is never open would "
    "cost nothing.",
    # Instructions, in steps.
    "# Bread without kneading\n\nYou need 500 g of flour, 10 g of salt, a pinch of yeast and 375 ml of water.\n\n1. "
    "Stir everything together in the evening. Cover the bowl and leave it for 12 to 18 hours.\n2. Fold the dough "
    "four times and let it rest for 30 minutes.\n3. Heat a pot with its lid in the oven at 240 °C.\n4. Bake for 30 "
    "minutes with the lid and 15 without.\n\nTip: the longer the dough rests, the better the crust.\n",
    # Questions and answers.
    "Question: Which planet has the most moons?\nAnswer: Saturn, with more than 140 known moons.\n\nQuestion: Who "
    "wrote the novel Frankenstein?\nAnswer: Mary Shelley; it appeared in 1818.\n\nQuestion: What is the chemical "
    "symbol of tungsten?\nAnswer: W, from the German Wolfram.\n\nQuestion: How many strings has a violin?\nAnswer: "
    "Four: G, D, A and E.\n",
    # Reasoning.
    "Three boxes are labelled apples, pears, and apples and pears, and every label is wrong. Take one fruit from the "
    "box labelled apples and pears. If it is an apple, that box holds only apples, because it can't hold both. The "
    "box labelled pears then holds neither pears alone nor apples alone, so it holds both, and the last one holds "
    "pears. One fruit is enough.",
)
"""Texts that rounding is fitted to, beside those that scales are."""
