"""A LlamaIndex query engine over texts of yours, with the cost of each query, streamed too."""

import re
import zlib

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index_lunar import LunarLLM, lunar_cost


class Words(BaseEmbedding):
    """Texts that share words are near. Lunar has no embeddings: a real program takes a local model."""

    def _get_text_embedding(self, text: str) -> list[float]:
        vector = [0.0] * 512
        for word in re.findall(r"[a-z]{4,}", text.lower()):
            vector[zlib.crc32(word.encode()) % 512] += 1.0
        return vector if any(vector) else [1.0] * 512

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


texts = ["Mars has two small moons, Phobos and Deimos.", "Venus turns backwards."]
index = VectorStoreIndex.from_documents([Document(text=t) for t in texts], embed_model=Words())
llm = LunarLLM(model="gpt-4o-mini")

with lunar_cost(tags={"tenant": "acme"}) as cost:
    answer = index.as_query_engine(llm=llm, similarity_top_k=1).query("Which moons has Mars?")
print("from:", answer.source_nodes[0].text)
print(f"{cost.total_cost:f} USD, {cost.unpriced} unpriced")

# A streamed answer is read after the query has returned: what it costs belongs to the block all the same.
with lunar_cost(tags={"tenant": "acme"}) as cost:
    answer = index.as_query_engine(llm=llm, streaming=True).query("Which planet turns backwards?")
print("read later:", bool(str(answer)))
print("attributed to", *cost.by_tag("tenant"))
