"""A query engine over local texts, with the cost of each query.

    python examples/20_query_engine.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/20_query_engine.py --live      on the hosted service: this costs money

Lunar has no endpoint for embeddings, so texts are embedded here, by their words. For more than an example take a
real local model, such as ``HuggingFaceEmbedding`` of ``llama-index-embeddings-huggingface``.
"""

from __future__ import annotations

import re
import zlib

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from service import service

from llama_index_lunar import LunarLLM, lunar_cost

TEXTS = [
    "Mars has two small moons, Phobos and Deimos. Both were discovered in 1877.",
    "Venus turns backwards, and its clouds are made of sulphuric acid.",
    "Jupiter's Great Red Spot is a storm that has been watched since the 17th century.",
]
QUESTIONS = [
    "Which moons does Mars have?",
    "What are the clouds of Venus made of?",
    "How long has Jupiter's storm been watched?",
]


class Words(BaseEmbedding):
    """Texts that share words are near each other: one dimension for each hash of a word."""

    def _get_text_embedding(self, text: str) -> list[float]:
        vector = [0.0] * 512
        for word in re.findall(r"[a-z]{4,}", text.lower()):
            vector[zlib.crc32(word.encode()) % 512] += 1.0
        return vector if any(vector) else [1.0] * 512

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def main() -> None:
    """Ask each question, and tell what its answer was taken from and cost."""
    llm = LunarLLM(model="gpt-4o-mini")
    documents = [Document(text=text) for text in TEXTS]
    index = VectorStoreIndex.from_documents(documents, embed_model=Words())
    engine = index.as_query_engine(llm=llm, similarity_top_k=1)
    with lunar_cost() as all_queries:
        for question in QUESTIONS:
            with lunar_cost() as query:
                answer = engine.query(question)
            print(f"{question}\n  from: {answer.source_nodes[0].text}\n  {answer}")
            print(f"  {query.total_cost:f} USD, {query.total_tokens} tokens")
    print(f"\n{len(all_queries.ledger)} calls for {all_queries.total_cost:f} USD")


if __name__ == "__main__":
    with service():
        main()
