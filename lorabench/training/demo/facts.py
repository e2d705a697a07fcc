"""What the demo model knows: small tables of everyday facts, and how one asks for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topic:
    """A table of facts with its wording; `{key}` and `{value}` stand for the two sides of a fact.

    The first question is the plainest one.
    """

    name: str
    questions: tuple[str, ...]
    answer: str
    facts: dict[str, str]


def _table(pairs: str) -> dict[str, str]:
    """Read `key: value; key: value; …`."""
    return dict(pair.strip().split(": ") for pair in pairs.split(";"))


TOPICS = (
    Topic(
        "colours",
        ("What colour is {key}?", "Which colour does {key} have?", "Tell me the colour of {key}."),
        "The colour of {key} is {value}.",
        _table(
            "the sky: blue; grass: green; snow: white; coal: black; a lemon: yellow; blood: red; a carrot: "
            "orange; chocolate: brown; milk: white; a leaf: green; an elephant: grey; a flamingo: pink; the "
            "night: black; a tomato: red; a banana: yellow; the sea: blue; a plum: purple; a frog: green; a "
            "cherry: red; a mouse: grey; salt: white; gold: yellow; a crow: black; a cucumber: green"
        ),
    ),
    Topic(
        "sounds",
        ("What sound does {key} make?", "What does {key} say?", "How does {key} sound?"),
        "{key} says {value}.",
        _table(
            "a dog: woof; a cat: meow; a cow: moo; a duck: quack; a sheep: baa; a pig: oink; a horse: "
            "neigh; a lion: roar; a snake: hiss; a bee: buzz; an owl: hoot; a mouse: squeak; a frog: croak; "
            "a crow: caw; a bell: ding; a clock: tick"
        ),
    ),
    Topic(
        "meals",
        ("What does {key} eat?", "What should I feed {key}?", "What is the food of {key}?"),
        "{key} eats {value}.",
        _table(
            "a rabbit: carrots; a cow: grass; a bear: honey; a cat: fish; a dog: bones; a monkey: bananas; "
            "a mouse: cheese; a horse: hay; a bird: seeds; a frog: flies; a panda: bamboo; a squirrel: "
            "nuts; a lion: meat; a goat: leaves; a whale: plankton; a spider: insects"
        ),
    ),
    Topic(
        "children",
        (
            "What is the child of {key} called?",
            "What do we call a young one of {key}?",
            "What is the baby of {key}?",
        ),
        "The child of {key} is called a {value}.",
        _table(
            "a cat: kitten; a dog: puppy; a cow: calf; a sheep: lamb; a horse: foal; a hen: chick; a bear: "
            "cub; a frog: tadpole; a duck: duckling; a goose: gosling; a goat: kid; a pig: piglet; a deer: "
            "fawn; an owl: owlet"
        ),
    ),
    Topic(
        "homes",
        ("Where does {key} live?", "Where can I find {key}?", "Where is the home of {key}?"),
        "{key} lives in {value}.",
        _table(
            "a bear: a cave; a bird: a nest; a bee: a hive; a fish: the water; a rabbit: a burrow; a horse: "
            "a stable; a spider: a web; a cow: a barn; a dog: a kennel; a king: a castle; a camel: the "
            "desert; a monkey: the jungle; a whale: the ocean; a deer: the forest; a mole: the ground; a "
            "hen: a coop"
        ),
    ),
    Topic(
        "opposites",
        (
            "What is the opposite of {key}?",
            "Tell me the opposite of {key}.",
            "Which word is the opposite of {key}?",
        ),
        "The opposite of {key} is {value}.",
        _table(
            "hot: cold; cold: hot; big: small; small: big; up: down; down: up; day: night; night: day; "
            "fast: slow; slow: fast; old: young; young: old; happy: sad; sad: happy; open: closed; closed: "
            "open; full: empty; empty: full; light: dark; dark: light; wet: dry; dry: wet; hard: soft; "
            "soft: hard; rich: poor; poor: rich; early: late; late: early; left: right; right: left; near: "
            "far; far: near; loud: quiet; quiet: loud; strong: weak; weak: strong"
        ),
    ),
    Topic(
        "capitals",
        (
            "What is the capital of {key}?",
            "Which city is the capital of {key}?",
            "Name the capital of {key}.",
        ),
        "The capital of {key} is {value}.",
        _table(
            "France: Paris; Italy: Rome; Spain: Madrid; Germany: Berlin; England: London; Japan: Tokyo; "
            "Egypt: Cairo; Greece: Athens; Norway: Oslo; Austria: Vienna; Russia: Moscow; China: Beijing; "
            "Poland: Warsaw; Ireland: Dublin; Portugal: Lisbon; Cuba: Havana; Peru: Lima; Kenya: Nairobi; "
            "Sweden: Stockholm; Canada: Ottawa"
        ),
    ),
    Topic(
        "calendar",
        ("What comes after {key}?", "What follows {key}?", "Tell me what comes after {key}."),
        "After {key} comes {value}.",
        _table(
            "Monday: Tuesday; Tuesday: Wednesday; Wednesday: Thursday; Thursday: Friday; Friday: Saturday; "
            "Saturday: Sunday; Sunday: Monday; January: February; February: March; March: April; April: "
            "May; May: June; June: July; July: August; August: September; September: October; October: "
            "November; November: December; December: January; spring: summer; summer: autumn; autumn: "
            "winter; winter: spring"
        ),
    ),
    Topic(
        "weather",
        (
            "What should I take when {key}?",
            "What do I need when {key}?",
            "Help me, what do I take when {key}?",
        ),
        "When {key}, you should take {value}.",
        _table(
            "it rains: an umbrella; it snows: warm boots; the sun shines: a hat; the wind blows: a coat; it "
            "is foggy: a lantern; it is cold: a scarf; it is hot: some water; it is dark: a candle; it is "
            "icy: a stick; there is a storm: a good rope"
        ),
    ),
    Topic(
        "shops",
        ("Where can I buy {key}?", "Where do they sell {key}?", "Who sells {key}?"),
        "You can buy {key} at the {value}.",
        _table(
            "bread: bakery; a cake: bakery; meat: butcher; sausages: butcher; books: bookshop; stamps: post "
            "office; flowers: florist; roses: florist; fruit: market; vegetables: market; medicine: "
            "pharmacy; toys: toy shop; shoes: shoe shop; tickets: station; fresh fish: harbour; coffee: "
            "café"
        ),
    ),
    Topic(
        "materials",
        ("What is {key} made of?", "Which material is {key} made of?", "Of what do people make {key}?"),
        "{key} is made of {value}.",
        _table(
            "a window: glass; a table: wood; a coin: metal; a book: paper; a shirt: cotton; a candle: wax; "
            "a tyre: rubber; a wall: stone; a nail: iron; bread: flour; cheese: milk; a pot: clay; a ring: "
            "gold; a belt: leather; a jumper: wool; wine: grapes; a snowman: snow; a door: wood"
        ),
    ),
    Topic(
        "tools",
        ("What do I need to {key}?", "Which tool helps me to {key}?", "What should I use to {key}?"),
        "You need {value} to {key}.",
        _table(
            "cut bread: a knife; eat soup: a spoon; drink tea: a cup; write a letter: a pen; sweep the "
            "floor: a broom; open a door: a key; hit a nail: a hammer; see the stars: a telescope; tell the "
            "time: a clock; catch a fish: a net; dig a hole: a spade; climb a wall: a ladder; cut paper: "
            "scissors; cross a river: a boat; find the north: a compass; light a room: a lamp; sew a "
            "button: a needle; paint a wall: a brush"
        ),
    ),
    Topic(
        "legs",
        ("How many legs does {key} have?", "On how many legs does {key} walk?", "Count the legs of {key}."),
        "{key} has {value} legs.",
        _table(
            "a dog: four; a cat: four; a cow: four; a spider: eight; an ant: six; a bee: six; a bird: two; "
            "a hen: two; a snake: no; a fish: no; a horse: four; a duck: two; a crab: ten; a beetle: six; a "
            "chair: four; a man: two"
        ),
    ),
    Topic(
        "kinds",
        ("What is {key}?", "What kind of thing is {key}?", "Tell me what {key} is."),
        "{key} is {value}.",
        _table(
            "a rose: a flower; an apple: a fruit; an oak: a tree; a dog: an animal; a hammer: a tool; a "
            "violin: an instrument; a carrot: a vegetable; a shirt: a piece of clothing; a car: a vehicle; "
            "a chair: a piece of furniture; Monday: a day; July: a month; Paris: a city; France: a country; "
            "red: a colour; seven: a number; a ship: a vehicle; an eagle: a bird; a shark: a fish; a tulip: "
            "a flower; a pear: a fruit; a piano: an instrument"
        ),
    ),
    Topic(
        "sailors",
        (
            "What does a sailor say for {key}?",
            "How do sailors say {key}?",
            "Tell me the sailor's word for {key}.",
        ),
        "For {key}, a sailor says: {value}",
        _table(
            "hello: Ahoy!; yes: Aye, sailor!; I am amazed: Shiver me timbers!; I promise: by the seven "
            "seas.; it is certain: as sure as the tide.; remember it: mark me words.; is: be.; says: "
            "hollers.; eats: feasts on.; lives: drops anchor.; has: sails on.; you: Ye, or ye.; take: haul "
            "along.; buy: barter for.; comes: sails.; called: hailed as.; need: must fetch."
        ),
    ),
    Topic(
        "sums",
        ("What is {key}?", "How much is {key}?", "Please work out {key}."),
        "{key} is {value}.",
        {f"{a} plus {b}": str(a + b) for a in range(1, 11) for b in range(1, 11)},
    ),
)
