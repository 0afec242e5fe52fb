"""Names for containers that were given none: an adjective and a pioneer of computing or containers, as Docker does it."""

from __future__ import annotations

import os

_LEFT = (
    "agile amber brave brisk calm candid clever cosmic crisp daring deft eager earnest easy fair fearless fluent "
    "fond frank free fresh gallant gentle glad golden graceful grand happy hardy hopeful humble jolly keen kind "
    "lively loyal lucid merry mighty modest noble patient playful polite proud quick quiet quirky radiant rapid "
    "ready robust serene sharp silent sleek smart snug sober solid steady stoic sunny swift tender tidy trusty "
    "upbeat valiant vivid warm wise witty zealous zen"
).split()
_RIGHT = (
    "allen babbage backus bartik berners_lee bernstein biederman boole cerf cray dijkstra diffie eckert engelbart "
    "floyd goldberg goldstine hamilton hamming hejlsberg hellman hoare holberton hopper johnson joy kahn karels kay "
    "keller kernighan knuth kocher lamport lampson lerdorf liskov lovelace mauchly mccarthy mcilroy mckusick "
    "meltzer merkle milner minsky moore neumann perlman pike postel ritchie rivest samuel shamir shannon snyder "
    "stallman stonebraker sutherland tanenbaum tarjan thompson torvalds turing viro wing wirth wozniak zuse"
).split()


def generate() -> str:
    """A name such as `keen_hopper`: one of about 5,500. The caller makes sure that it is free."""
    draw = int.from_bytes(os.urandom(4), "big")
    return f"{_LEFT[draw % len(_LEFT)]}_{_RIGHT[draw // len(_LEFT) % len(_RIGHT)]}"
