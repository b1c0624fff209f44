"""pytest-httpx, whose fixture answers for every transport of httpx."""


def test_the_mock_answers(question, httpx_mock):
    head = {"content-type": question.content_type}
    httpx_mock.add_response(text=question.body, headers=head)
    assert question.ask() == "from the mock"
    assert httpx_mock.get_request().headers["x-api-key"]
