"""A sync method and its async twin are the same code: whatever is mended in one is mended in both.

`tests/core/test_shells.py` compares the modules of the client, line by line. This compares each pair `x` and `ax`
(`_x` and `_ax`, `__enter__` and `__aenter__`) of one class or one module, and each method of a class `X` with that of
the class `AsyncX` beside it, in all three packages.
"""

from __future__ import annotations

import ast
import copy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("lunar_core", "langchain_lunar", "llama_index_lunar")

COUNTERPARTS = {
    "Awaitable": None,  # ``Awaitable[X]`` is X
    "AsyncioStream": "SocketStream",
    "ChatResponseAsyncGen": "ChatResponseGen",
    "CompletionResponseAsyncGen": "CompletionResponseGen",
    "aclosing": "closing",
    "anext": "next",
    "async_close_dropped": "close_dropped",
    "async": "sync",
    "asynchronous": "sync",
}
"""What is called otherwise in async code, beside ``AsyncX`` for ``X`` and ``ax`` for ``x``."""

TYPES = ("Async", "Awaitable", "Generator")

DIFFERENT = {
    "lunar_core.evaluate.answers.acompare_answers": "the sync one runs it to its end",
    "lunar_core.evaluate.report.RouteReport.ameasure": "the sync one runs it to its end",
    "lunar_core.cost.budget.store.StoredCounters.arun": "only an event loop must not wait for SQLite's file",
    "lunar_core.cost.budget.threads.BoundedThread.arun": "a thread's future is awaited in another way",
    "lunar_core.client.call.Call.abegin": "observers that have an `abefore` are awaited",
    "lunar_core.client.connection.AsyncConnection.__init__": "a thread's wait is interrupted, a task's is cancelled",
    "lunar_core.client.connection.AsyncConnection.aclose": "closing a transport of asyncio's waits for nothing",
    "lunar_core.client.connections.AsyncConnections._client": "our connections run on asyncio's loops alone",
    "lunar_core.client.connections.AsyncConnections.send": "a due cancellation comes first; a task can be timed",
    "lunar_core.client.own_clients.OwnAsyncClient.__init__": "its transports are closed in each event loop",
    "lunar_core.client.pauses.AsyncPauses.__init__": "a queue of threads, and a set of tasks' futures",
    "lunar_core.client.pauses.AsyncPauses.end": "the same",
    "lunar_core.client.pauses.AsyncPauses.wait": "the same",
    "lunar_core.client.permits.AsyncPermits.__init__": "a queue of threads, and one of tasks",
    "lunar_core.client.permits.AsyncPermits.acquire": "the same",
    "lunar_core.client.permits.AsyncPermits.close": "the same",
    "lunar_core.client.permits.AsyncPermits.release": "the same",
    "lunar_core.client.pool.AsyncFreeList.__init__": "connections go with their process, and with their event loop",
    "lunar_core.client.pool.AsyncFreeList._drop_expired": "another thread may take the last one first",
    "lunar_core.client.pool.AsyncFreeList._take": "the same",
    "lunar_core.client.pool.AsyncFreeList.aclose": "a thread is interrupted; asyncio aborts",
    "lunar_core.client.pool.AsyncPool.aclose": "the loop lets go of sockets in its next round",
    "lunar_core.client.responses.AsyncResponse.__init__": "an alarm for a thread, none for a task",
    "lunar_core.client.responses.AsyncResponse.abandon": "what the garbage collector may do depends on the event loop",
    "lunar_core.client.responses.AsyncResponse.aclose": "the same, and a generator that runs is seen in another way",
    "lunar_core.client.responses.AsyncResponse.drain": "an alarm, or a timeout",
    "lunar_core.client.responses.AsyncResponse.read": "an alarm, or a timeout; and a stream belongs to its event loop",
    "lunar_core.client.transport.AsyncTransport.__init__": "a pool for each process, or for each event loop",
    "lunar_core.client.transport.AsyncTransport.__setstate__": "the same",
    "lunar_core.client.transport.AsyncTransport._pool": "the same",
    "lunar_core.client.transport.AsyncTransport.aclose": "the same",
    "langchain_lunar.evaluate.acompare_runs": "the sync one refuses an async evaluator",
    "langchain_lunar.evaluators.Judging.arun": "several are judged at once",
    "langchain_lunar.llms.LunarLLM._agenerate": "prompts are asked by tasks, not by threads",
    "llama_index_lunar.structured.StructuredOutput.apredict": "LlamaIndex's programs are called by name only in async",
    "llama_index_lunar.llm.LunarLLM.aclose": "closes the connections of sync calls too",
    "langchain_lunar.router.chain.LunarRouterChain.astream": "LangChain wants an iterator that it can await",
}
"""Pairs that cannot be equal, and why."""


class WithoutAwait(ast.NodeTransformer):
    """Rewrites async code as the sync code would be written. `names`: all those in the sync twin."""

    def __init__(self, names):
        self.names = names

    def sync_name(self, name):
        if name in self.names:
            return name
        for candidate in (COUNTERPARTS.get(name), name.replace("Async", ""), *without_a(name)):
            if candidate in self.names:
                return candidate
        return name

    def visit_Name(self, node):
        return ast.Name(self.sync_name(node.id), node.ctx)

    def visit_Attribute(self, node):
        return ast.Attribute(self.visit(node.value), self.sync_name(node.attr), node.ctx)

    def visit_alias(self, node):
        return ast.alias(self.sync_name(node.name), node.asname)

    def visit_Await(self, node):
        return self.visit(node.value)

    def visit_Call(self, node):
        """``await asyncio.to_thread(read, path)``: what blocks is done aside in async code."""
        if ast.unparse(node.func) == "asyncio.to_thread":
            node = ast.Call(node.args[0], node.args[1:], node.keywords)
        return self.generic_visit(node)

    def visit_Subscript(self, node):
        name = node.value.id if isinstance(node.value, ast.Name) else None
        if name == "Awaitable":
            return self.visit(node.slice)
        if name in {"AsyncGenerator", "Generator"} and isinstance(
            node.slice, ast.Tuple
        ):  # one of them has a type for what it returns
            node.slice = node.slice.elts[0]
        return self.generic_visit(node)

    def visit_Constant(self, node):
        """Types and names in quotes: ``cast("AsyncIterator[int]", …)``, ``getattr(llm, "achat")``."""
        if not isinstance(node.value, str):
            return node
        is_type = any(word in node.value for word in TYPES)
        return ast.Constant((self.sync_type if is_type else self.sync_name)(node.value))

    def sync_type(self, text):
        try:
            return ast.unparse(self.visit(ast.parse(text, mode="eval").body))
        except SyntaxError:
            return text

    def visit_AsyncFunctionDef(self, node):
        node = self.generic_visit(node)
        fields = dict(ast.iter_fields(node)) | {"name": self.sync_name(node.name)}
        return ast.FunctionDef(**fields)

    def visit_FunctionDef(self, node):
        """Of decorators, say, that differ in what they wrap."""
        node = self.generic_visit(node)
        node.name = self.sync_name(node.name)
        return node

    def visit_AsyncFor(self, node):
        return self.visit_For(ast.For(**dict(ast.iter_fields(node))))

    def visit_For(self, node):
        """``for item in items: yield item`` is ``yield from items``, which async code does not have."""
        node = self.generic_visit(node)
        if ast.unparse(node.body) == f"yield {ast.unparse(node.target)}":
            return ast.Expr(ast.YieldFrom(node.iter))
        return node

    def visit_AsyncWith(self, node):
        return ast.With(**dict(ast.iter_fields(self.generic_visit(node))))

    def visit_comprehension(self, node):
        node = self.generic_visit(node)
        node.is_async = 0
        return node


def without_a(name):
    """The sync names that an async one may stand for: ``ainvoke``, ``_ainvoke``, ``__aenter__``."""
    bare = name.lstrip("_")
    return [name[: len(name) - len(bare)] + bare[1:]] if bare[:1] == "a" else []


def names_in(function):
    names = {function.name}
    for node in ast.walk(function):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, (ast.FunctionDef, ast.alias)):
            names.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= set(node.value.replace("[", " ").replace("]", " ").split())
    return names


def without_await(function, sync):
    """The code of `function` as sync code, with the names of `sync`, and without its docstring."""
    function = WithoutAwait(names_in(sync)).visit(copy.deepcopy(function))
    if ast.get_docstring(function) is not None:
        function.body = function.body[1:]
    return ast.unparse(ast.fix_missing_locations(function))


def is_function(node):
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))


def pairs_in(path):
    """Each async function that has a sync one beside it, by its full name."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    module_name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    holders = [(module_name, module)]
    holders += [
        (f"{module_name}.{n.name}", n) for n in ast.walk(module) if isinstance(n, ast.ClassDef)
    ]
    for prefix, holder in holders:
        functions = {node.name: node for node in holder.body if is_function(node)}
        for name, function in functions.items():
            for sync_name in without_a(name):
                if sync_name in functions:
                    yield f"{prefix}.{name}", functions[sync_name], function
    yield from pairs_of_classes(module_name, module)


def pairs_of_classes(module_name, module):
    """Each method of a class ``AsyncX`` that the class ``X`` of its module has, too."""
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    for name, holder in classes.items():
        sync = classes.get(name.replace("Async", ""))
        if sync is None or sync is holder:
            continue
        functions = {node.name: node for node in sync.body if is_function(node)}
        for node in holder.body:
            for sync_name in (node.name, *without_a(node.name)) if is_function(node) else ():
                if sync_name in functions:
                    yield f"{module_name}.{name}.{node.name}", functions[sync_name], node
                    break


PAIRS = {
    name: (sync, asynchronous)
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    for name, sync, asynchronous in pairs_in(path)
}


@pytest.mark.parametrize(
    "name",
    sorted(PAIRS.keys() - DIFFERENT.keys()),
)
def test_an_async_method_is_its_sync_twin_with_awaits(name):
    sync, asynchronous = PAIRS[name]
    assert without_await(asynchronous, sync) == without_await(sync, sync)


def test_pairs_that_differ_are_pairs_and_each_has_its_reason():
    assert DIFFERENT.keys() <= PAIRS.keys()
    assert all(DIFFERENT.values())
    codes = {
        name: (without_await(PAIRS[name][1], PAIRS[name][0]), PAIRS[name][0]) for name in DIFFERENT
    }
    assert [name for name, (code, sync) in codes.items() if code == without_await(sync, sync)] == []


@pytest.mark.parametrize("package", ["langchain_lunar", "llama_index_lunar"])
def test_there_are_pairs_to_compare(package):
    assert sum(name.startswith(package) for name in PAIRS) > 5


@pytest.mark.parametrize(
    ("asynchronous", "sync", "is_same"),
    [
        ("async def ax(a):\n return await a.aread(1)", "def x(a):\n return a.read(1)", True),
        ("async def ax(a):\n return await a.aread(2)", "def x(a):\n return a.read(1)", False),
        ("async def ax(a):\n async for b in a: pass", "def x(a):\n for b in a: pass", True),
        ("async def ax(a):\n async with a: c()", "def x(a):\n with a: b()", False),
        ("async def ax() -> Awaitable[int]: ...", "def x() -> int: ...", True),
    ],
)
def test_a_difference_is_found(asynchronous, sync, is_same):
    ours, theirs = ast.parse(asynchronous).body[0], ast.parse(sync).body[0]
    assert (without_await(ours, theirs) == without_await(theirs, theirs)) is is_same
