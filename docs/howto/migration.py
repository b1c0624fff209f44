"""Five classes that programs have, and what they write in their place. The arguments may stay."""

import os

from langchain_lunar import ChatLunar
from llama_index_lunar import LunarLLM
from lunar_core import Lunar

key, url = os.environ["LUNAR_API_KEY"], os.environ["LUNAR_BASE_URL"]

# from langchain_openai import ChatOpenAI
chat_openai = ChatLunar(
    model="gpt-4o-mini", openai_api_key=key, openai_api_base=url, max_completion_tokens=50
)
# from langchain_openrouter import ChatOpenRouter
chat_open_router = ChatLunar(model="openai/gpt-4o-mini", openrouter_api_key=key, max_retries=2)
# from lunar.integrations.langchain import ChatLunar
chat_lunar = ChatLunar(model="gpt-4o-mini", fallbacks=["gpt-4o"])
for chat in (chat_openai, chat_open_router, chat_lunar):
    metadata = chat.invoke("Say hello.").response_metadata
    print(metadata["model_name"], metadata["total_cost_usd"] is not None)

# from llama_index.llms.openai_like import OpenAILike
# from lunar.integrations.llamaindex import LunarLLM
llm = LunarLLM(model="gpt-4o-mini", api_key=key, api_base=url, is_chat_model=True)
print(llm.complete("Say hello.").additional_kwargs["total_cost_usd"] is not None)

# from openai import OpenAI, or lunar.Lunar
client = Lunar(key, base_url=url)
answer = client.chat.completions.create(
    model="gpt-4o-mini", messages=[{"role": "user", "content": "Say hello."}]
)
print(answer.choices[0].message.content, answer.cost is not None)
