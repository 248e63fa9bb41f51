{{ movie_candidates(ref('int_movie_titles'), ref('int_movies_grouped')) }}
