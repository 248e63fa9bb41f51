{{ movie_matches(ref('int_movies_grouped'), ref('int_movie_candidates')) }}
