"""Texts of many kinds that nothing in an export was fitted to or chosen by.

They were written without a look at the texts that exports are calibrated on and verified on, and are only measured
with. Whoever tunes something by them has to write others.
"""

from __future__ import annotations

TEXTS = (
    # A letter.
    "Dear Margaret,\n\nThank you for the photographs, which arrived on Thursday together with the first real frost. I "
    "have put the one of your grandmother's orchard on the shelf above the stove, where everybody who comes in asks "
    "about it. You wanted to know whether the house can be sold before spring. The lawyer thinks so, provided that "
    "your brother signs the second form as well; please remind him that it needs a witness. The piano stays with "
    "me until somebody can fetch it. It has not been tuned since your wedding, and sounds like it.\n\nWith love to "
    "the children,\nHarold\n",
    # How to run a machine.
    "Changing the blade of the band saw. 1. Switch off the main isolator and hang your own padlock on it. 2. Open both "
    "wheel covers and release the tension lever until the blade is slack. 3. Lift the old blade off the upper wheel "
    "first; wear gloves, since it may spring open. 4. Lay the new blade on both wheels with its teeth pointing "
    "towards the table and downwards. 5. Tighten the lever to the mark that belongs to the width of the blade, then "
    "turn the upper wheel by hand three times. If the blade wanders, correct it with the tracking knob, a quarter of "
    "a turn at a time. Never correct it while the motor is running.",
    # Two people in a shop.
    "“Do you repair umbrellas?” asked the man in the wet coat.\n“We used to,” said the woman behind the counter. “My "
    "father did. He could make a new rib out of a bicycle spoke.”\n“And now?”\n“Now people buy another one at the "
    "station for five pounds and leave it on the train.” She turned the handle over. “But this is a good one. Cherry "
    "wood. Who gave it to you?”\n“Nobody. I found it on a train.”\nShe laughed so loudly that the cat left the "
    "window.\n“Come back on Monday,” she said, “and bring a bicycle.”\n",
    # News.
    "PORT ELLERY — The harbour authority voted nine to four on Tuesday night to close the old ferry terminal by the "
    "end of next year and to move all passenger services to the eastern quay. Residents of the lower town, who had "
    "gathered more than six thousand signatures against the plan, said that they would take the decision to court. "
    "“Nobody has told us how a person with a wheelchair is supposed to get there in the rain,” said Dora Whitlock, "
    "who runs a bakery opposite the terminal. A spokesman for the authority pointed to falling passenger numbers, "
    "down by almost a third since the bridge was opened, and to repairs that would cost an estimated 18 million.",
    # A recipe.
    "Lentil soup with lemon, for four people\n\n- 250 g red lentils\n- 1 large onion, 2 cloves of garlic, 2 carrots\n"
    "- 1 teaspoon ground cumin, half a teaspoon paprika\n- 1.2 litres vegetable stock\n- juice of one lemon, olive "
    "oil, salt\n\nChop the onion and fry it gently in the oil for ten minutes, until it is soft but not brown. Add the "
    "garlic and the spices and stir until you can smell them. Rinse the lentils, add them with the sliced carrots and "
    "the stock, and simmer for twenty minutes with the lid half on. Blend half of the soup and pour it back. The "
    "lemon goes in last, off the heat.\n",
    # A function.
    "def merge(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:\n"
    '    """Joins intervals that touch or overlap; the result is sorted."""\n'
    "    merged: list[tuple[int, int]] = []\n"
    "    for start, end in sorted(intervals):\n"
    "        if start > end:\n"
    '            raise ValueError(f"expected start <= end, got {start} > {end}")\n'
    "        if merged and start <= merged[-1][1]:\n"
    "            merged[-1] = (merged[-1][0], max(merged[-1][1], end))\n"
    "        else:\n"
    "            merged.append((start, end))\n"
    "    return merged\n\n\n"
    "assert merge([(5, 8), (1, 3), (2, 4)]) == [(1, 4), (5, 8)]\n",
    # A table.
    "| Month | Visitors | Guided tours | Income (EUR) |\n|---|---:|---:|---:|\n| April | 1,204 | 31 | 9,632.00 |\n"
    "| May | 1,987 | 48 | 15,896.00 |\n| June | 2,350 | 57 | 18,800.00 |\n| July | 3,118 | 62 | 24,944.00 |\n"
    "| August | 3,402 | 60 | 27,216.00 |\n| Total | 12,061 | 258 | 96,488.00 |\n",
    # French.
    "Chaque matin, le facteur laissait son vélo contre le mur de l'école et traversait la cour à pied, parce que la "
    "directrice ne supportait pas les traces de pneus dans le gravier. Il apportait rarement des lettres, surtout des "
    "factures et des catalogues, mais les enfants l'attendaient quand même à la fenêtre. Un jour, il a sorti de sa "
    "sacoche une carte postale venue du Chili. Personne ne savait qui l'avait envoyée. On l'a accrochée au-dessus du "
    "tableau, où elle est restée jusqu'aux vacances.",
    # Why something is so.
    "A ship floats because the water that it pushes aside weighs as much as the ship itself. Load it more heavily and "
    "it sinks a little deeper, until it displaces enough again. That is also why the same ship lies lower in a river "
    "than at sea: salt water is denser by about two and a half percent, so less of it has to be moved out of the "
    "way. Marks painted on the hull show how deep it may lie in each kind of water, and in which season.",
)
