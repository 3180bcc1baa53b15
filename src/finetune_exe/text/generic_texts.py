"""General text that has nothing to do with any task, to see what a model loses of it."""

from __future__ import annotations

GENERIC_TEXTS = (
    "The river rises in the hills to the north and runs for about eighty miles before it reaches the sea. Its "
    "upper valley is narrow and wooded; below the old mill the banks are low, and in wet winters the meadows "
    "stand under water for weeks.",
    "To change a tyre, park on level ground and pull the handbrake. Loosen the nuts half a turn before you "
    "lift the car, then take the wheel off, put the spare on, and tighten the nuts crosswise. Lower the car "
    "and tighten them once more.",
    "Water boils at one hundred degrees Celsius at sea level. Higher up the air presses less, and it boils "
    "sooner: on a mountain of three thousand metres at about ninety degrees, which is why potatoes take longer"
    " there.",
    "Dear Ms Weaver, thank you for your letter of 4 May. We are sorry that the parcel came late. The missing "
    "lamp was sent today, and the cost of delivery has been paid back to your account. Yours sincerely, the "
    "service team.",
    "In 1850 the town had a market, two churches and a school of sixty children. Forty years later the railway"
    " had come, and with it a glass works, a hospital and eleven thousand people, most of whom had been born "
    "somewhere else.",
    "Question: A farmer has 17 sheep and buys 8 more. How many has he then? Answer: 17 + 8 = 25. He has 25 "
    "sheep. Question: He sells 10 of them. How many are left? Answer: 25 - 10 = 15. There are 15 left.",
    "def average(values):\n"
    "    total = 0\n"
    "    for value in values:\n"
    "        total += value\n"
    "    return total / len(values)\n",
    "Der Bus nach Altdorf kommt um halb neun. Wer die Karten schon hat, geht gleich zum Eingang; alle anderen "
    "warten bitte links an der Kasse. Hunde und grosse Taschen bleiben draussen.",
    "Le chat dort sur la chaise pendant que la pluie tombe. Demain nous irons au marche acheter du pain, des "
    "pommes et du fromage, puis nous rentrerons par le chemin du moulin.",
    "A contract is an agreement that the law will enforce. It needs an offer, an acceptance and, in most "
    "places, something given in return. Signatures are usual but seldom required; what counts is that both "
    "sides meant to be bound.",
)
"""Written for this purpose: prose, a recipe, a letter, arithmetic, code, German and French."""
