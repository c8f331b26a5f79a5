INSERT INTO "completions" VALUES('5dab7a71c9e4c4a651f0d1b87ba2197ef29675e3e1b61f7759c0a50a6bacfe05','{"text": "{\"response\": \"\", \"sentiment\": [\"Sarcastic\"]}", "token_logprobs": []}',1795571819.19522);
INSERT INTO "completions" VALUES('9ea1809588ffbd7c1272610fcff7c33637e8aa033a27fd3b66f3ea61e8e2a496','{"text": "{\"response\": \"\", \"sentiment\": [\"Sarcastic\"]}", "token_logprobs": []}',1.79557181926862430569e+09);
INSERT INTO "completions" VALUES('3fe8994ebc3d095aded7fbd8c62794caf33824550ed5a42ca49d9b42ddd768e0','{"text": "{\"response\": \"\", \"sentiment\": [\"Sarcastic\"]}", "token_logprobs": []}',1.79557181958459234237e+09);
INSERT INTO "completions" VALUES('b888c8fadfb2ea235fe9757e14463b0a5e595611621cf32dc9da49081957901f','{"text": "{\"response\": \"\", \"sentiment\": [\"Sarcastic\"]}", "token_logprobs": []}',1.7955718195936639309e+09);
INSERT INTO "completions" VALUES('e79d7fe74c50e192a90b3638dbac4d5a3402cd09327aa733251e0e0193f7cec2','{"text": "{\"response\": \"\", \"sentiment\": [\"Sarcastic\"]}", "token_logprobs": []}',1.7955718195936639309e+09);
INSERT INTO "completions" VALUES('f636051b80d1161444f14f8b9837dafef79143069a42d368d810bb526cca4dee','{"text": "{\"response\": \"\", \"sentiment\": [\"Sarcastic\"]}", "token_logprobs": []}',1.7955718195936639309e+09);
INSERT INTO "completions" VALUES('93be9f370ad1160132e847acd890697e22c2a2a8029fc316d16beea495a5ccba','{"text": "It''s good \u2013 \u60c5\u611f; 4", "token_logprobs": []}',1.79557182026179480553e+09);
INSERT INTO "completions" VALUES('7508d4e4d2d8f063f75fa30779908dda08cb2d897214feb155de2ea4317743f8','{"text": "It''s good \u2013 \u60c5\u611f; 4", "token_logprobs": []}',1.79557182027967619894e+09);
INSERT INTO "completions" VALUES('ea1194ef2ae6ae26e284ccb3e9f725983ade4a13765bb49b46f523591f4792d1','{"text": "It''s good \u2013 \u60c5\u611f; 4", "token_logprobs": []}',1.79557182027967619894e+09);
INSERT INTO "job_tasks" VALUES(1,'9a494f2ff82f444a80a0db64120e2358','1:6383872c5722b626803008b1dad67fa0',1,'{"text": "text 1"}',2880.629513972,'handed_over','machine-14289-62bce76e',0.0,'{"result": [{"id": "ac32dc8a69", "from_name": "prompt", "to_name": "text", "type": "textarea", "value": {"text": ["Is this\n''sarcastic''? \u60c5\u611f"]}}, {"id": "2af4324886", "from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": ["Sarcastic"]}}], "model_version": "gpt-3.5-turbo-3db6782c"}','','',16,1.79557181959485101701e+09,2862.740917888);
INSERT INTO "job_tasks" VALUES(2,'9a494f2ff82f444a80a0db64120e2358','2:0d08a487146c743d9ab3eceaad3500b1',2,'{"text": "text 2"}',2880.629513972,'handed_over','machine-14289-62bce76e',0.0,'{"result": [{"id": "3b93a43fef", "from_name": "prompt", "to_name": "text", "type": "textarea", "value": {"text": ["Is this\n''sarcastic''? \u60c5\u611f"]}}, {"id": "74b407ec1e", "from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": ["Sarcastic"]}}], "model_version": "gpt-3.5-turbo-3db6782c"}','','',16,1.79557181959485101701e+09,2862.740917888);
INSERT INTO "job_tasks" VALUES(3,'9a494f2ff82f444a80a0db64120e2358','3:24c63491193ef6497a2ba3a295187c9e',3,'{"text": "text 3"}',2880.629513972,'handed_over','machine-14289-62bce76e',0.0,'{"result": [{"id": "afd9fa9178", "from_name": "prompt", "to_name": "text", "type": "textarea", "value": {"text": ["Is this\n''sarcastic''? \u60c5\u611f"]}}, {"id": "993bced588", "from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": ["Sarcastic"]}}], "model_version": "gpt-3.5-turbo-3db6782c"}','','',16,1.79557181958964276317e+09,2862.740917888);
INSERT INTO "job_tasks" VALUES(4,'9a494f2ff82f444a80a0db64120e2358','4:2c77ad2774c51530cb404e4efd75c79b',4,'{"text": "text 4"}',2880.629513972,'handed_over','machine-14289-62bce76e',0.0,'{"result": [{"id": "0b05cbd3bb", "from_name": "prompt", "to_name": "text", "type": "textarea", "value": {"text": ["Is this\n''sarcastic''? \u60c5\u611f"]}}, {"id": "b053f96e56", "from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": ["Sarcastic"]}}], "model_version": "gpt-3.5-turbo-3db6782c"}','','',16,1.79557181959485101701e+09,2862.740917888);
INSERT INTO "job_tasks" VALUES(5,'82392f3434d949b1bba6edd8f57512b6','1:b201689d52d4c08d7f9dbe5254f16036',1,'{"review": "review 1"}',2881.383415667,'handed_over','machine-14289-62bce76e',0.0,'{"result": [{"id": "d2af830794", "from_name": "prompt", "to_name": "review", "type": "textarea", "value": {"text": ["Rate it."]}}, {"id": "3ae744b1ef", "from_name": "why", "to_name": "review", "type": "textarea", "value": {"text": ["It''s good \u2013 \u60c5\u611f; 4"]}}], "model_version": "gpt-3.5-turbo-5504ceff"}','','',16,1.79557182028073263166e+09,2863.421024177);
INSERT INTO "job_tasks" VALUES(6,'82392f3434d949b1bba6edd8f57512b6','2:75b4eb2259d0b5c0a3f78dc7cbd0a4a9',2,'{"review": "review 2"}',2881.383415667,'handed_over','machine-14289-62bce76e',0.0,'{"result": [{"id": "f170f9e0b4", "from_name": "prompt", "to_name": "review", "type": "textarea", "value": {"text": ["Rate it."]}}, {"id": "4d4df1c5ad", "from_name": "why", "to_name": "review", "type": "textarea", "value": {"text": ["It''s good \u2013 \u60c5\u611f; 4"]}}], "model_version": "gpt-3.5-turbo-5504ceff"}','','',16,1.79557182028073263166e+09,2863.421024177);
INSERT INTO "job_tasks" VALUES(7,'82392f3434d949b1bba6edd8f57512b6','3:1db58fd23a1ffb48052f657b13ea5f8a',3,'{"review": "review 3"}',2881.383415667,'handed_over','machine-14289-62bce76e',0.0,'{"result": [{"id": "b1db6a2547", "from_name": "prompt", "to_name": "review", "type": "textarea", "value": {"text": ["Rate it."]}}, {"id": "226307a70b", "from_name": "why", "to_name": "review", "type": "textarea", "value": {"text": ["It''s good \u2013 \u60c5\u611f; 4"]}}], "model_version": "gpt-3.5-turbo-5504ceff"}','','',16,1795571820.26309,2863.421024177);
INSERT INTO "job_tasks" VALUES(8,'82392f3434d949b1bba6edd8f57512b6','4:7f4e974959ffcc17560cff3de1dc814a',4,'{"review": "review 4 later"}',2882.025437403,'pending','machine-14289-62bce76e',0.0,NULL,'','',0,NULL,0.0);
INSERT INTO "job_tasks" VALUES(9,'82392f3434d949b1bba6edd8f57512b6','5:6755be355bad97641e0ac949a820270f',5,'{"review": "review 5 later"}',2882.025437403,'pending','machine-14289-62bce76e',0.0,NULL,'','',0,NULL,0.0);
INSERT INTO "job_tasks" VALUES(10,'82392f3434d949b1bba6edd8f57512b6','6:470b04941b8d2ceeeaf359597e985564',6,'{"review": "review 6 later"}',2882.025437403,'pending','machine-14289-62bce76e',0.0,NULL,'','',0,NULL,0.0);
INSERT INTO "jobs" VALUES('9a494f2ff82f444a80a0db64120e2358','7.1795440473','gpt-3.5-turbo-3db6782c','
<View>
  <Text name="text" value="$text"/>
  <TextArea name="prompt" toName="text"/>
  <TextArea name="response" toName="text"/>
  <Choices name="sentiment" toName="text" choice="multiple">
    <Choice value="Sarcastic"/>
    <Choice value="Not Sarcastic"/>
  </Choices>
</View>
','{"temperature": 0.2, "default_prompt": "Is it sarcastic?", "api_key": "sk-of-the-project", "num_responses": 1, "prompt_template": "Source Text: {text}\n\nTask Directive: {prompt}", "use_internal_prompt_template": true, "model": "gpt-3.5-turbo"}','Is this
''sarcastic''? 情感','done','','',1.79557181924185609812e+09,2862.033469118,'',0.0);
INSERT INTO "jobs" VALUES('82392f3434d949b1bba6edd8f57512b6','8.1795440474','gpt-3.5-turbo-5504ceff','<View><Text name="review" value="$review"/><Rating name="stars" toName="review" maxRating="5"/><TextArea name="prompt" toName="review"/><TextArea name="why" toName="review"/></View>','{"default_prompt": "Rate it.", "temperature": 0.7, "num_responses": 1, "prompt_template": "Source Text: {text}\n\nTask Directive: {prompt}", "use_internal_prompt_template": true, "model": "gpt-3.5-turbo"}','Rate it.','active','','',1.7955718201596517563e+09,2863.426964937,'',0.0);
INSERT INTO "projects" VALUES('7.1795440473','
<View>
  <Text name="text" value="$text"/>
  <TextArea name="prompt" toName="text"/>
  <TextArea name="response" toName="text"/>
  <Choices name="sentiment" toName="text" choice="multiple">
    <Choice value="Sarcastic"/>
    <Choice value="Not Sarcastic"/>
  </Choices>
</View>
','{"temperature": 0.2, "default_prompt": "Is it sarcastic?", "api_key": "sk-of-the-project"}','Is this
''sarcastic''? 情感',NULL,NULL);
INSERT INTO "projects" VALUES('8.1795440474','<View><Text name="review" value="$review"/><Rating name="stars" toName="review" maxRating="5"/><TextArea name="prompt" toName="review"/><TextArea name="why" toName="review"/></View>','{"default_prompt": "Rate it."}','Rate it.',NULL,NULL);
INSERT INTO "schema_version" VALUES(1);
