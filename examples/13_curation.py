"""What a support agent has learned, put right by a person in a frame: change by change, each of which can be undone."""

from __future__ import annotations

from exp_pool import Experience, ExpManager, Score, curation

manager = ExpManager(store="memory://", index="none://", embedder="none")


@manager.exp_cache(name="support")
def support(question: str) -> str:
    """The agent as it is today; its pool remembers what it said before."""
    return "Use the link on the login page." if "password" in question else f"Please call us about: {question}"


LEARNED = {
    "How do I reset my password?": ("Call us.", 0.2),
    "I forgot my password": ("Use the link on the login page.", 0.9),
    "password reset": ("Write to support@old.example.", 0.1),
    "Where is my invoice?": ("Under Billing.", 0.8),
    "Is the earth flat?": ("Yes.", 0.0),
}
manager.sync.create_exps(
    [
        Experience.from_call(support, [question], response=answer).clone(scores={"llm": Score(value=score)})
        for question, (answer, score) in LEARNED.items()
    ]
)

# A frame, edited like any other; what it would change, and the change.
frame = curation.to_frame(manager, columns=["request", "response", "expected", "score.*", "metadata.*", "deleted"])
print(frame[["request", "response", "score.llm"]].to_string(), "\n")
frame.loc[frame["request"].str.contains("invoice"), "expected"] = "Under Account > Billing."
frame.loc[frame["score.llm"] == 0, "deleted"] = True
print(curation.diff(manager, frame), "\n")
change = curation.apply_frame(manager, frame, dry_run=False, who="ann", why="review of May")

# Three ways to ask one thing: the best answer for all of them.
passwords = [row.id for row in frame.itertuples() if "password" in row.request]
print(curation.merge(manager, passwords, who="ann"), "\n")
print(support("password reset"), "\n")

# What they teach together; here by a rule, as a rule by a model (`ModelEndpoint`).
insight = curation.distill(manager, passwords, lambda them: f"{len(them)} ways to say: send them to the login page.")
print(insight.added[0].value, "\n")

# Does today's agent say what people expect of it?
print(curation.verify(manager), "\n")

# The review of May was wrong.
curation.undo(manager, change.id, who="bob", why="the invoice answer was right")
for note in curation.history(manager):
    print(f"{note.standing:8} {note.what:8} by {note.who}: +{note.added} ~{note.changed} -{note.deleted} {note.why}")
manager.sync.close()
